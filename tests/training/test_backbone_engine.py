"""Backbones on this machine that judge labels without training."""

from pathlib import Path

import pytest
import torch

from megavit.data.dataset import LabeledImages
from megavit.data_check.label_issues import review_labels
from megavit.data_check.probe import predict_out_of_fold
from megavit.training.backbone_engine import find_backbone_engine
from tests.helpers.backbones import HUB, make_folder, make_row, use_table
from tests.helpers.labeled_images import make_labeled_images, make_scene
from tests.helpers.listener import Listener

CPU = torch.device("cpu")


def make_photos(side: int = 48, channels: int = 3) -> LabeledImages:
    """Dark and bright scenes, of which the first has the other label."""
    pictures = [make_scene(seed, side, channels) // 2 + 120 * (seed % 2) for seed in range(40)]
    targets = [seed % 2 for seed in range(40)]
    targets[0] = 1
    return make_labeled_images(pictures, targets, classes=("dark", "bright"))


@pytest.fixture
def backbones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_table(monkeypatch, make_row("broken", "timm:broken"), make_row(HUB, f"timm:{HUB}"))
    monkeypatch.setenv("MEGAVIT_BACKBONES", str(tmp_path))
    return tmp_path


def test_a_backbone_on_this_machine_finds_a_wrong_label(backbones: Path) -> None:
    make_folder(backbones / HUB)
    (backbones / "broken").mkdir()
    listener, photos = Listener(), make_photos()
    found = find_backbone_engine(photos, CPU, listener)
    assert found is not None and found.backbone.name == HUB
    assert found.engine.preprocessing.height == 112
    assert len(listener.lines) == 1 and "broken in " in listener.lines[0] and "cannot be used" in listener.lines[0]
    review = review_labels(photos, predict_out_of_fold(found.engine, photos))
    assert review.findings[0].images[0] == "0000.png"


@pytest.mark.parametrize("photos", [make_photos(side=24, channels=1), make_photos(channels=5)])
def test_only_photographs_are_judged_so(backbones: Path, photos: LabeledImages) -> None:
    make_folder(backbones / HUB)
    assert find_backbone_engine(photos, CPU, Listener()) is None


def test_without_one_there_is_none(backbones: Path) -> None:
    assert find_backbone_engine(make_photos(), CPU, Listener()) is None
