"""A bundle whose head has parts answers for the classes of the first as the bundle without the others, to the bit."""

from pathlib import Path
from typing import Any

import pytest
import torch

from megavit.engine.openvino import OpenVino
from megavit.errors import BundleError
from megavit.model.vit import MegaVit
from megavit.predict.predictor import Predictor, load
from megavit.weights.bundle.bundle import build_model, load_bundle, save_bundle
from tests.helpers.bundles import edit_bundle_info, make_bundle, make_info, make_model, reference_images

ADDED = 3
BATCHES = range(1, 18)


def names(count: int) -> list[str]:
    return [f"class {number}" for number in range(count)]


def save_pair(folder: Path, classes: int, **changes: Any) -> tuple[Predictor, Predictor]:
    """Return the predictor of a bundle, and of one with `ADDED` more classes in a part of their own."""
    former = make_bundle(folder / "former", make_model(classes, **changes), names(classes), metrics={})
    wider = make_model(classes + ADDED, seed=1, **changes)
    info = make_info(wider, names(classes + ADDED), metrics={}, head_parts=[classes, ADDED])
    model = build_model(info)
    assert isinstance(model, MegaVit)
    rows = {f"mlp_head.{name}": getattr(wider.mlp_head, name).clone() for name in ("weight", "bias")}
    for name, tensor in former.mlp_head.state_dict().items():
        rows[f"mlp_head.{name}"][:classes] = tensor
    model.load_state_dict(former.state_dict() | rows, assign=True)
    save_bundle(folder / "wider", model.eval(), info, reference=reference_images(), samples=b"")
    return load(folder / "former"), load(folder / "wider", verify=True)


@pytest.mark.parametrize("pool", ["mean", "map"])
@pytest.mark.parametrize("classes", [2, 7, 8, 10, 33])
def test_logits_of_the_former_classes_are_the_same_to_the_bit(classes: int, pool: str, tmp_path: Path) -> None:
    former, wider = save_pair(tmp_path, classes, pool=pool, dim=32)
    random = torch.Generator().manual_seed(0)
    for batch in BATCHES:
        images = torch.randint(0, 256, (batch, 3, 8, 8), dtype=torch.uint8, generator=random)
        before, after = former.engine.run_pytorch(images), wider.engine.run_pytorch(images)
        assert torch.equal(before.pooled, after.pooled)
        assert torch.equal(before.logits, after.logits[:, :classes])


def test_packed_images_of_many_sizes_too(tmp_path: Path) -> None:
    former, wider = save_pair(tmp_path, 7, dim=32)
    images = [
        torch.rand(3, 8 + 4 * (number % 3), 8, generator=torch.Generator().manual_seed(number)) for number in range(9)
    ]
    with torch.no_grad():
        assert torch.equal(former.model(images), wider.model(images)[:, :7])


@pytest.mark.parametrize("classes", [7, 10])
def test_openvino_gives_the_same_too(classes: int, tmp_path: Path) -> None:
    former, wider = (
        OpenVino(one.model, one.info.preprocessing, "float32") for one in save_pair(tmp_path, classes, dim=32)
    )
    for batch in BATCHES:
        images = torch.randint(0, 256, (batch, 3, 8, 8), dtype=torch.uint8)
        (pooled, logits), (wider_pooled, wider_logits) = former(images), wider(images)
        assert torch.equal(pooled, wider_pooled)
        assert torch.equal(logits, wider_logits[:, :classes])


def test_weights_of_single_rows_are_aligned_wherever_they_are_in_the_file(tmp_path: Path) -> None:
    for classes in range(2, 10):
        make_bundle(tmp_path / f"{classes}", make_model(classes, pool="map"), names(classes), metrics={})
        model = load_bundle(tmp_path / f"{classes}").single_model
        for module in (model.mlp_head, model.pool):
            assert all(parameter.data_ptr() % 64 == 0 for parameter in module.parameters())


@pytest.mark.parametrize(
    ("parts", "said"),
    [([2, 2], "head_parts must add up to the 3 classes"), ([4, -1], "head_parts must be positive")],
)
def test_parts_that_do_not_fit_are_refused(parts: list[int], said: str, tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    edit_bundle_info(tmp_path / "bundle", lambda table: table.update(head_parts=parts))
    with pytest.raises(BundleError, match=said):
        load_bundle(tmp_path / "bundle")
