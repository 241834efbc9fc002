"""The real command, on a model that was trained on real images."""

import json

import numpy as np
from PIL import Image

from tests.end_to_end.conftest import PER_CLASS
from tests.helpers.command_line import run_megavit


def test_a_folder_is_explained_and_one_damaged_image_stops_none(run, digits, tmp_path):
    done = run_megavit("explain", run, digits / "digit 1", "--out", "why", "--json", cwd=tmp_path)
    assert done.returncode == 2 and f"1 of {PER_CLASS + 1} images could not be read" in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    explained = [line for line in lines if "error" not in line]
    assert [line["error"] for line in lines if "error" in line] == ["the file is empty"]
    assert len(explained) == PER_CLASS == len(list((tmp_path / "why").iterdir()))
    for line in explained:
        with Image.open(tmp_path / line["heat_map_file"]) as image:
            assert image.size == (224, 224)
        assert np.min(line["map"]) >= 0


def test_an_image_comes_through_standard_input(run, digits, tmp_path):
    image = (digits / "digit 0" / "000.png").read_bytes()
    done = run_megavit("explain", run, "-", "--out", "why", cwd=tmp_path, stdin=image)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("-  digit ") and "looks at" in done.stdout
    assert [path.name for path in (tmp_path / "why").iterdir()] == ["standard-input.explained.png"]
