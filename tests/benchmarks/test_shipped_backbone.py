"""The distillation of a backbone goes on where it was stopped, and what it writes can be compared and trained from."""

import json
import os
import random
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.few_labels.backbone_probe import compare_contenders
from benchmarks.few_labels.backbone_student import train
from benchmarks.few_labels.backbone_targets import SIDE, compute_targets, draw_crop
from benchmarks.few_labels.shipped_backbone import pack_bundle
from megavit.weights.backbones import included
from megavit.weights.backbones.fetch import load_source
from megavit.weights.bundle.bundle import load_bundle
from tests.helpers.backbones import make_folder

pytestmark = pytest.mark.benchmarks


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    chance = random.Random(0)
    for number in range(12):
        folder = tmp_path / "pictures" / ("red", "blue")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        color = (200, chance.randrange(80), 0) if number % 2 == 0 else (0, chance.randrange(80), 200)
        Image.new("RGB", (40, 30), color).save(folder / f"{number}.png")
    return tmp_path / "pictures"


def test_a_crop_has_its_size_whatever_the_picture() -> None:
    chance = random.Random(0)
    for size in ((3, 500), (16, 16), (300, 200)):
        crop = draw_crop(Image.new("RGB", size, "white"), 0.01, chance)
        assert crop.shape == (3, SIDE, SIDE) and crop.dtype == torch.uint8


@pytest.mark.parametrize("layers", [None, 1])
def test_training_goes_on_where_it_was_stopped_and_the_bundle_is_compared_and_packed(
    pictures, tmp_path, monkeypatch, layers: int | None
) -> None:
    monkeypatch.setattr("benchmarks.few_labels.backbone_targets.CROPS", 4)
    monkeypatch.setattr("benchmarks.few_labels.backbone_student.SAVE_SECONDS", 0.0)
    teacher = load_source(str(make_folder(tmp_path / "teacher")), print)
    work = tmp_path / "work"
    compute_targets([pictures / "red", pictures / "blue"], work / "targets", teacher, 2)
    first, second = sorted((work / "targets").iterdir())
    written = first.stat().st_mtime_ns
    second.unlink()
    compute_targets([pictures / "red", pictures / "blue"], work / "targets", teacher, 2)
    assert first.stat().st_mtime_ns == written and second.exists()
    options = Namespace(
        work=work,
        core_minutes=0.01,
        preset="hybrid-nano",
        layers=layers,
        image_size=16,
        learning_rate=6e-3,
        layer_decay=1.0,
        batch_size=4,
        files=2,
        name="student",
    )
    train(options, teacher)
    options.core_minutes = 0.02
    train(options, teacher)
    log = [json.loads(line) for line in (work / "student" / "log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in log]
    assert steps == sorted(steps) and len(set(steps)) > 2 and log[-1]["core_minutes"] >= 0.02
    out = tmp_path / "compared.json"
    compare_contenders([os.fspath(work / "student" / "bundle")], [pictures], [3], [0], out)
    (run,) = json.loads(out.read_text())["runs"]
    assert run["images"] == 6 and run["test"] == 4 and 0 <= run["accuracy"] <= 1
    compare_contenders([os.fspath(work / "student" / "bundle")], [pictures], [3], [0], out)
    assert len(json.loads(out.read_text())["runs"]) == 1
    pack_bundle(work / "student" / "bundle", tmp_path / "packed" / "tiny")
    monkeypatch.setattr(included, "FOLDER", tmp_path / "packed")
    found = load_bundle(included.unpack_included("tiny", tmp_path / "unpacked"), verify=True).single_model
    assert found.config == load_bundle(work / "student" / "bundle").single_model.config
    assert (tmp_path / "packed" / "tiny" / "CARD.md").is_file()
