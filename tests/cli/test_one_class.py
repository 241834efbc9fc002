"""A folder with images of one class only, for verbs whose bundle knows the classes."""

import json
import unicodedata
from pathlib import Path

import pytest

from benchmarks.data.data_layouts import write_images
from megavit.cli.app import run
from megavit.exporting.parity_images import load_parity_images
from megavit.predict.predictor import load
from tests.helpers.bundles import make_bundle, make_model

NFD = unicodedata.normalize("NFD", "caf\u00e9")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one_class")
    make_bundle(folder / "bundle")
    make_bundle(folder / "coffee", make_model(2), labels=["caf\u00e9", "tea"])
    write_images(folder / "data", "test/dog", per_folder=70)
    write_images(folder / "cups", NFD)
    write_images(folder / "typo", "Dog")
    return folder


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def test_evaluate_measures_it(capsys):
    assert run(["evaluate", "bundle", "data", "--device", "cpu"]) == 0
    assert "on 70 test images" in capsys.readouterr().out.splitlines()[0]
    assert run(["evaluate", "bundle", "data", "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert found["metrics"]["images"] == 70 and found["data"]["split"] == "test"


def test_a_folder_in_another_unicode_form_is_the_class_that_the_bundle_knows(capsys):
    assert run(["evaluate", "coffee", "cups", "--device", "cpu"]) == 0
    assert "on 4 test images" in capsys.readouterr().out


def test_a_class_that_looks_like_a_known_one_is_shown_with_code_points(capsys):
    assert run(["evaluate", "bundle", "typo", "--device", "cpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("Are these the same: 'dog' (U+0064) and 'Dog' (U+0044)?")


@pytest.mark.parametrize("verb", ["calibrate", "quantize"])
def test_calibrate_and_quantize_take_it(verb, place, capsys):
    more = ["--max-accuracy-drop", "100"] if verb == "quantize" else ["--device", "cpu"]
    code = run([verb, "bundle", "data", "--out", verb, *more])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert (place / verb / "megavit.json").is_file()


def test_an_export_is_verified_on_it():
    images, _ = load_parity_images(load("bundle", device="cpu"), "data")
    assert images
