"""Commands that read tables are told their columns and the folder of their images, and a run remembers."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import megavit
from megavit.config.recipe import DataRecipe
from megavit.data.load import load_data
from megavit.errors import DataError
from megavit.training.run_dir import read_plan
from tests.helpers.command_line import run_megavit, run_megavit_json

COLUMNS = ("--path-column", "image", "--label-column", "dx", "--image-root", "elsewhere/photos")
RECIPE = """
[model]
preset = "pico"
patch_size = 4
image_size = 8
channels = 1
[run]
epochs = 1
device = "cpu"
precision = "float32"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table whose columns and images nothing can find, with 40 images in a folder that is not below it."""
    photos = tmp_path / "elsewhere" / "photos"
    photos.mkdir(parents=True)
    rows = []
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 100, (8, 8)).astype(np.uint8) + number % 2 * 150
        Image.fromarray(pixels).save(photos / f"{number}.png")
        rows.append(f"{number},lesion{number},{'nv' if number % 2 else 'mel'},{'north' if number % 4 < 2 else 'south'}")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "table.csv").write_text("\n".join(["image,lesion_id,dx,site", *rows]))
    (tmp_path / "tiny.toml").write_text(RECIPE)
    return tmp_path


def test_every_command_that_reads_a_table_takes_its_columns(folder, monkeypatch):
    monkeypatch.chdir(folder)
    table = "tables/table.csv"
    refused = run_megavit("check", table, cwd=folder)
    assert refused.returncode == 2 and "--label-column" in refused.stderr
    assert "mel" in json.dumps(run_megavit_json("check", table, *COLUMNS, "--skip-labels", cwd=folder))
    assert run_megavit_json("shard", table, *COLUMNS, "--out", "shards", cwd=folder)["images"] == 40

    trained = run_megavit("train", table, *COLUMNS, "--recipe", "tiny.toml", "--out", "run", cwd=folder)
    assert trained.returncode == 0, trained.stderr
    recipe = read_plan(folder / "run").recipe.data
    assert (recipe.path_column, recipe.label_column) == ("image", "dx")
    assert recipe.image_root == str(folder / "elsewhere" / "photos")
    assert load_data(read_plan(folder / "run").source, recipe).fingerprint() == read_plan(folder / "run").fingerprint

    evaluated = run_megavit_json("evaluate", "run/bundle", table, *COLUMNS, "--group-by", "site", cwd=folder)
    assert re.search("north.*south", json.dumps(evaluated))
    calibrated = run_megavit("calibrate", "run/bundle", table, *COLUMNS, "--out", "calibrated", cwd=folder)
    assert "--label-column" not in calibrated.stderr  # too few images to calibrate on, but they are found
    both = run_megavit("train", "--resume", "run", *COLUMNS, cwd=folder)
    assert both.returncode == 2 and "with its own settings" in both.stderr


def test_a_table_is_an_object_in_python(folder):
    table = megavit.Table(folder / "tables" / "table.csv", "image", "dx", folder / "elsewhere" / "photos")
    images = load_data(table, DataRecipe())
    assert images.classes == ("mel", "nv") and images.samples[0].name.startswith("../elsewhere/photos/")
    nowhere = megavit.Table(folder / "tables" / "table.csv", "image", "dx", folder / "nowhere")
    with pytest.raises(DataError, match=r"nowhere', as --image-root says, is not a folder"):
        load_data(nowhere, DataRecipe())
