"""`predict`, `embed` and `explain` of names of which some are bad: the others lose nothing."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from megavit.cli.app import run
from megavit.exporting.export import export
from megavit.exporting.parity_images import ParityImage
from tests.helpers.export_cases import make_images, make_predictor

BAD = {
    "https://a.example/photo.jpg": "image URLs are not fetched",
    "s3://bucket/photo.png": "image URLs are not fetched",
    "file:///nowhere/photo.jpg": "image URLs are not fetched",
    "nowhere.tar": "nowhere.tar: missing",
    "cut.tar": "cut.tar: damaged",
    "index": "megavit-shards.json is damaged",
    "empty": "there are no images in it",
    "notes.png": "not an image",
    "gone.png": "no such file",
    "": "the name is empty",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, what it was exported to, good images, and names that stand for none."""
    folder = tmp_path_factory.mktemp("names")
    predictor = make_predictor(folder / "bundle", True)
    export(predictor, "onnx", folder / "onnx", [ParityImage("a", one) for one in make_images(3)])
    (folder / "good").mkdir()
    for number, pixels in enumerate(make_images(3, 30)):
        Image.fromarray(pixels).save(folder / "good" / f"{number:02}.png")
    for name in ("index", "empty"):
        (folder / name).mkdir()
    (folder / "index" / "megavit-shards.json").write_text("{}")
    (folder / "cut.tar").write_bytes(b"x" * 700)
    (folder / "notes.png").write_text("no picture")
    return folder


@pytest.fixture
def names(place: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(place)
    good = [f"good/{number:02}.png" for number in range(30)]
    return [name for at, bad in enumerate(BAD) for name in (bad, *good[3 * at : 3 * at + 3])]


@pytest.mark.parametrize("model", ["bundle", "onnx"])
def test_forty_names_ten_of_them_bad_get_forty_lines(model, names, capsys) -> None:
    assert run(["predict", model, *names]) == 2
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert len(lines) == 40 and shown.err == "10 of 40 images could not be read\n"
    for name, line in zip(names, lines, strict=True):
        message = f"  cannot be read: {line.partition(': ')[2]}"
        assert line.startswith(name)
        assert (BAD[name] in line and line == name + message) if name in BAD else "%" in line


@pytest.mark.parametrize("verb", ["predict", "embed", "explain"])
def test_each_name_has_its_record(verb, names, capsys, tmp_path) -> None:
    flags = ["--out", str(tmp_path / "why")] if verb == "explain" else []
    assert run([verb, "bundle", *names, "--json", *flags]) == 2
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["path"] for record in records] == names
    for record in records:
        assert (BAD[record["path"]] in record["error"]) if record["path"] in BAD else "error" not in record


def test_files_have_a_row_for_each_name(names, capsys, tmp_path) -> None:
    assert run(["predict", "bundle", *names, "--out", str(tmp_path / "a.csv")]) == 2
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == names
    assert all(bool(row["error"]) == (row["path"] in BAD) == (not row["label"]) for row in rows)
    assert run(["embed", "bundle", *names, "--out", str(tmp_path / "a.npz")]) == 2
    arrays = np.load(tmp_path / "a.npz")
    assert len(arrays["path"]) == 30 and arrays["failed"].tolist() == list(BAD)


def test_an_image_by_url_is_not_asked_for_as_shards(place, capsys, monkeypatch) -> None:
    monkeypatch.chdir(place)
    assert run(["predict", "bundle", "http://127.0.0.1:9/photo.jpg", "--out", "one.csv"]) == 2
    shown = capsys.readouterr()
    assert "megavit-shards.json" not in shown.err and "1 of 1 images could not be read" in shown.err
