"""Photographs start from a backbone at hand, and the bundle says from which, under which license."""

import contextlib
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from megavit.cli.app import run
from tests.helpers.backbones import HUB, make_folder, make_row, use_table
from tests.helpers.labeled_images import make_scene

FLAGS = ["--epochs", "1", "--finetune", "probe", "--device", "cpu", "--precision", "float32"]


def train(*arguments: str | Path) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = run(["train", *map(str, arguments)])
    return code, said.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(24):
        folder = tmp_path / "photos" / ("dark", "light")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture = (make_scene(number) // 2 + 127 * (number % 2)).permute(1, 2, 0).numpy()
        Image.fromarray(picture).save(folder / f"{number}.png")
    return tmp_path / "photos"


def test_a_run_names_its_backbone_and_license_and_its_recipe_repeats_it(photos, tmp_path, monkeypatch):
    row = make_row(HUB, f"timm:{HUB}")
    use_table(monkeypatch, row)
    make_folder(tmp_path / "mine" / HUB)
    monkeypatch.setenv("MEGAVIT_BACKBONES", str(tmp_path / "mine"))
    code, said = train(photos, "--out", tmp_path / "run", *FLAGS)
    assert code == 0 and f"starting from {HUB} in " in said, said
    info = json.loads((tmp_path / "run" / "bundle" / "megavit.json").read_text())
    assert (info["tuning"]["pretrained"], info["tuning"]["origin"]) == (HUB, row.source)
    assert info["tuning"]["license"] == "MIT"
    assert info["recipe"]["model"]["pretrained"] == HUB and info["model"]["image_size"] in (20, [20, 20])
    card = (tmp_path / "run" / "bundle" / "README.md").read_text()
    assert f"come from timm/{HUB} on the Hugging Face hub; their license is MIT." in card
    # Its bundle, as weights to start from, still says where they once came from.
    code, said = train(photos, "--out", tmp_path / "next", "--from", tmp_path / "run", *FLAGS)
    assert code == 0, said
    tuning = json.loads((tmp_path / "next" / "bundle" / "megavit.json").read_text())["tuning"]
    assert tuning["license"] == "MIT" and tuning["origin"].endswith(f"itself from {row.source}")


def test_without_a_network_training_starts_from_scratch_and_says_so(photos, tmp_path):
    flags = ["--epochs", "1", "--device", "cpu", "--precision", "float32", "--out", tmp_path / "run"]
    code, said = train(photos, *flags)
    assert code == 0 and "training starts from scratch: no backbone is on this machine" in said
    info = json.loads((tmp_path / "run" / "bundle" / "megavit.json").read_text())
    assert info["tuning"] == {} and info["recipe"]["model"]["pretrained"] == "scratch"
    assert "pretrained" not in (tmp_path / "run" / "bundle" / "README.md").read_text()
