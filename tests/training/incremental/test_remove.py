"""Classes are removed from a bundle without any change of the others, and can come back."""

from pathlib import Path

import pytest
import torch

import megavit
from megavit.data.dataset import read_samples
from megavit.errors import ConfigError
from megavit.weights.bundle.bundle import SAMPLES


@pytest.fixture(scope="module")
def two(digits_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> megavit.ClassRemoval:
    return megavit.remove_classes(digits_bundle, ["digit 1"], out=tmp_path_factory.mktemp("two") / "bundle")


def test_the_other_classes_stay_as_they_are(two: megavit.ClassRemoval, digits_bundle: Path) -> None:
    before, after = megavit.load(digits_bundle), megavit.load(two, verify=True)
    assert two.removed == ("digit 1",) and after.labels == ("digit 0", "digit 2")
    for name in ("weight", "bias"):
        old, new = (predictor.model.mlp_head.state_dict()[name] for predictor in (before, after))
        assert torch.equal(old[[0, 2]], new)
    assert two.metrics.images == 8 and after.info.calibration.images == 8
    assert two.to_dict()["removed"] == ["digit 1"]


def test_a_class_comes_back_with_its_images_in_their_former_splits(
    two: megavit.ClassRemoval, digits_bundle: Path, tmp_path: Path
) -> None:
    folder = digits_bundle.parent / "digits" / "digit 1"
    back = megavit.add_classes(two, [folder], out=tmp_path / "three")
    assert megavit.load(back).labels == ("digit 0", "digit 2", "digit 1")
    assert read_samples(back.folder / SAMPLES) == read_samples(digits_bundle / SAMPLES)
    assert back.added[0].images == {"train": 32, "val": 4, "test": 4}


def test_what_cannot_be_removed_is_said(digits_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no class 'digit 7': it has digit 0, digit 1, digit 2"):
        megavit.remove_classes(digits_bundle, ["digit 7"], out=tmp_path / "out")
    with pytest.raises(ConfigError, match="needs at least 2 classes, and 1 would remain"):
        megavit.remove_classes(digits_bundle, ["digit 0", "digit 1"], out=tmp_path / "out")
    with pytest.raises(ConfigError, match="none was named to remove"):
        megavit.remove_classes(digits_bundle, [], out=tmp_path / "out")
