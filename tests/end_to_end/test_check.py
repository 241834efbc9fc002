import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from megavit.cli import app
from tests.end_to_end.conftest import PER_CLASS
from tests.helpers.command_line import run_megavit


@pytest.fixture
def faulty(digits, tmp_path):
    """The digits with a file in train and test, a wrong label, an empty picture and one cut short."""
    data = tmp_path / "data"
    for split in ("train", "test"):
        shutil.copytree(digits, data / split)
    for split, kept in (("train", range(24)), ("test", range(24, PER_CLASS))):
        for path in (data / split).glob("*/*.png"):
            if path.stem.isdigit() and int(path.stem) not in kept:
                path.unlink()
        (data / split / "digit 1" / "empty.png").unlink()
    shutil.copy(data / "train" / "digit 0" / "000.png", data / "test" / "digit 0" / "again.png")
    (data / "train" / "digit 0" / "001.png").rename(data / "train" / "digit 1" / "moved.png")
    Image.new("L", (8, 8), 100).save(data / "train" / "digit 2" / "002.png")
    cut = data / "train" / "digit 2" / "003.png"
    cut.write_bytes(cut.read_bytes()[:60])
    return data


def findings(done):
    return {
        kind: [one["images"] for one in json.loads(done.stdout)["findings"] if one["kind"] == kind]
        for kind in {one["kind"] for one in json.loads(done.stdout)["findings"]}
    }


def test_faults_are_found_written_and_the_answer_is_no(faulty, tmp_path):
    done = run_megavit("check", faulty, "--minutes", "0.03", "--device", "cpu", "--out", "out", "--json", cwd=tmp_path)
    assert done.returncode == 1
    found = findings(done)
    assert ["train/digit 0/000.png", "test/digit 0/again.png"] in found["leak"]
    assert ["train/digit 2/003.png"] in found["unreadable"]
    assert found["blank"] == [["train/digit 2/002.png"]]
    answer = json.loads(done.stdout)
    assert answer["serious"] and answer["labels"]["checked"] and answer["splits"]["train"] > answer["splits"]["test"]
    with (tmp_path / "out" / "check.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["kind"] == "leak" and rows[0]["severity"] == "serious"
    assert "<img" in (tmp_path / "out" / "check.html").read_text()


def test_a_bundle_is_not_asked_about_labels_that_it_knows_by_heart(faulty, run, tmp_path):
    done = run_megavit("check", faulty, "--bundle", run, cwd=tmp_path)
    assert done.returncode == 2 and "memorized the labels" in done.stderr


def test_without_faults_the_answer_is_yes(tmp_path):
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for place in range(20):
            pixels = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((40, 40)).save(tmp_path / "data" / name / f"{place}.png")
    done = run_megavit("check", "data", "--skip-labels", cwd=tmp_path)
    assert done.returncode == 0 and "nothing serious was found" in done.stdout
    assert "--skip-labels was given" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_labels_and_scores_are_checked_but_not_judged(faulty, tmp_path):
    paths = sorted(path.relative_to(tmp_path).as_posix() for path in faulty.glob("*/digit 0/*.png"))
    for column, value in (("labels", "a|b"), ("score", "1.5")):
        rows = [f"{path},{value}" for path in paths]
        (tmp_path / "table.csv").write_text("\n".join([f"path,{column}", *rows]))
        done = run_megavit("check", "table.csv", "--json", cwd=tmp_path)
        answer = json.loads(done.stdout)
        assert not answer["labels"]["checked"] and "single class" in answer["labels"]["reason"]
        assert ["data/test/digit 0/again.png", "data/train/digit 0/000.png"] in [
            sorted(one["images"]) for one in answer["findings"]
        ]


def test_names_of_any_bytes_are_told_and_write_nothing_to_the_terminal(faulty, tmp_path):
    nasty = b"\xff\x1b[31m<b>.png"
    target = bytes(faulty / "train" / "digit 0") + b"/" + nasty
    shutil.copyfile(bytes(faulty / "train" / "digit 0" / "005.png"), target)
    done = run_megavit("check", faulty, "--skip-labels", "--out", "out", cwd=tmp_path)
    assert done.returncode == 1 and "\x1b" not in done.stdout
    assert nasty in (tmp_path / "out" / "check.csv").read_bytes()
    assert "&lt;b&gt;" in (tmp_path / "out" / "check.html").read_text()


@pytest.mark.parametrize(
    ("flags", "reported"),
    [
        (["--skip-labels", "--minutes", "1"], "leave out one of them"),
        (["--bundle", "x", "--minutes", "1"], "leave it out"),
        (["--minutes", "0"], "minutes must be"),
        (["--device", "tpu"], "device must be"),
        (["--bundle", "nowhere"], "nowhere"),
        (["--out", "data/out"], "is inside the data folder"),
        (["--out", "."], "is not empty"),
    ],
)
def test_mistakes_are_told_before_any_work(faulty, tmp_path, flags, reported, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert app.run(["check", "data", *flags]) == 2
    assert reported in capsys.readouterr().err
