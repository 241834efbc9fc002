"""The ways that the benchmark compares compute the same."""

import pytest
import torch

from benchmarks.speed.packing import compare, largest_difference, make_mixes
from megavit.config.presets import preset
from megavit.config.vit import PLAIN_VIT
from megavit.model.vit import MegaVit

pytestmark = pytest.mark.benchmarks


def small() -> MegaVit:
    torch.manual_seed(0)
    config = preset("nano", image_size=32, num_classes=4, design=PLAIN_VIT)
    return MegaVit(
        **{
            name: getattr(config, name)
            for name in ("image_size", "patch_size", "num_classes", "dim", "heads", "mlp_dim")
        },
        depth=2,
    ).eval()


def test_every_way_answers_as_one_image_at_a_time() -> None:
    model = small()
    for images in make_mixes(model, 8, torch.device("cpu")).values():
        assert len({image.shape for image in images}) > 3
        differences = largest_difference(model, images)
        assert set(differences) == {"packed", "padded", "masked"}
        assert max(differences.values()) < 1e-5


def test_the_result_has_a_row_for_each_way() -> None:
    model = small()
    found = compare(model, make_mixes(model, 4, torch.device("cpu"))["sizes"], "float32", repetitions=1)
    for what in ("inference", "step"):
        rows = found[what]
        assert isinstance(rows, dict) and set(rows) == {"packed", "padded", "masked", "one by one"}
        assert rows["packed"]["packed_is_faster"] == 1
