"""Names that nobody would choose, through training, prediction and a moved folder: what is printed and written."""

import csv
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from benchmarks.data.data_layouts import write_images
from megavit.cli.app import run
from megavit.data.dataset import read_samples

EVIL = 'a\nb\x1b[31m<img src="http://x/y">'
FORMULA = '=HYPERLINK("http:\u2215\u2215x")'
QUICK = ["--epochs", "1", "--batch-size", "8", "--model", "nano", "--image-size", "8", "--patch-size", "4"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data whose classes have such names."""
    folder = tmp_path_factory.mktemp("names")
    evil = EVIL.replace("/", "\u2215")
    write_images(folder / "data", "Cat", "cat ", evil, FORMULA, "a|b", per_folder=6)
    write_images(folder / "other", "Cat", "cat ", per_folder=6)
    return folder


@pytest.fixture
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def trained(place: Path) -> Path:
    if not (place / "run").exists():
        settings = ["--precision", "float32", "--device", "cpu"]
        assert run(["train", str(place / "data"), "--out", str(place / "run"), *QUICK, *settings]) == 0
    return place / "run"


def test_training_warns_of_class_names_that_look_alike_and_escapes_control_characters(inside, capsys):
    trained(inside)
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    lines = shown.err.splitlines()
    assert "of 5 classes" in lines[0]
    assert lines[1].startswith("  =HYPERLINK(") and r"a\nb\x1b[31m<img" in lines[1] and lines[1].endswith("cat ")
    alike = next(line for line in lines if line.startswith("similar class names"))
    assert "'Cat' (U+0043) and 'cat ' (U+0063 U+0020) look alike" in alike


def test_a_prediction_is_one_line_and_a_table_contains_no_formula(inside, capsys):
    bundle = str(trained(inside))
    capsys.readouterr()
    assert run(["predict", bundle, "data", "--device", "cpu"]) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 30 and "\x1b" not in shown.out + shown.err
    assert run(["predict", bundle, "data", "--device", "cpu", "--coverage", "0.8", "--out", "answers.csv"]) == 0
    with (inside / "answers.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 31
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    sets = [re.split(r"(?<!\\)\|", row[3]) for row in rows[1:]]
    assert {name for names in sets for name in names} <= {
        *("Cat", "cat ", r"a\|b", EVIL.replace("/", "\u2215"), f"'{FORMULA}", FORMULA, "")
    }


def test_the_list_of_samples_comes_back_exactly_and_the_card_shows_names_as_they_are(inside):
    bundle = trained(inside) / "bundle"
    rows = read_samples(bundle / "samples.csv")
    assert {row.target for row in rows} == {path.name for path in (inside / "data").iterdir()}
    assert all(row.name.startswith(f"{row.target}/") for row in rows)
    raw = (bundle / "samples.csv").read_bytes().decode()
    assert '"=' not in raw and "\"'=HYPERLINK" in raw
    card = (bundle / "README.md").read_text()
    assert "\x1b" not in card
    kinds = {token.type for block in MarkdownIt("commonmark").parse(card) for token in (block, *(block.children or []))}
    assert not kinds & {"html_block", "html_inline", "image", "link_open"}


def test_a_run_resumes_with_images_that_have_moved(inside, capsys):
    trained(inside)
    (inside / "data").rename(inside / "moved")
    capsys.readouterr()
    assert run(["train", "--resume", "run"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err == (
        f"megavit: the images of this run are no longer at {inside / 'data'}: move them back, or pass their new "
        "location with megavit train --resume run DATA\n"
    )
    assert run(["train", "--resume", "run", "other"]) == 2
    assert "other has changed since the run began" in capsys.readouterr().err
    assert run(["train", "--resume", "run", "moved"]) == 0
    assert f"the images are the same, and are now read from {inside / 'moved'}" in capsys.readouterr().err
    assert run(["train", "--resume", "run"]) == 0
    (inside / "moved").rename(inside / "data")
