"""`megavit explain` in this process, with a bundle that has learned nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from megavit.cli.app import run
from megavit.cli.writers.explanations import describe
from megavit.config.target import Target
from megavit.explain.explanation import Explanation
from tests.helpers.bundles import make_bundle, make_model


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a bundle, two pictures of one name, and a file that is no picture."""
    make_bundle(tmp_path / "bundle")
    for number, folder in enumerate(("a", "b")):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 256, (30, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / folder / "one.png")
    (tmp_path / "photos" / "notes.txt").write_text("not an image")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_image_gets_a_heat_map_and_a_line_and_a_bad_one_does_not_stop_the_others(place, capsys) -> None:
    assert run(["explain", "bundle", "photos", "--out", "why", "--device", "cpu"]) == 2
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert len(lines) == 3 and sum("looks at" in line and "patches hold" in line for line in lines) == 2
    assert [line for line in lines if line.startswith("photos/notes.txt  cannot be read: not an image")]
    assert "1 of 3 images could not be read" in shown.err and "2 heat maps in why" in shown.err
    assert sorted(path.name for path in (place / "why").iterdir()) == ["one-2.explained.png", "one.explained.png"]
    one, two = (np.asarray(Image.open(path)) for path in sorted((place / "why").iterdir()))
    assert one.shape == two.shape == (30 * 8, 20 * 8, 3)
    assert not np.array_equal(one, two)


def test_nothing_is_overwritten(place, capsys) -> None:
    for _ in range(2):
        assert run(["explain", "bundle", "photos/a/one.png", "--out", "why"]) == 0
    assert sorted(path.name for path in (place / "why").iterdir()) == ["one-2.explained.png", "one.explained.png"]


def test_a_folder_within_the_one_that_is_explained_is_not_explained_in_turn(place, capsys) -> None:
    assert run(["explain", "bundle", "photos", "--out", "photos/why"]) == 2
    assert "1 of 3 images could not be read" in capsys.readouterr().err
    assert len(list((place / "photos" / "why").iterdir())) == 2


def test_for_machines_there_is_an_object_a_line(place, capsys) -> None:
    arguments = ["--out", "why", "--json", "--label", "newt", "--method", "rollout"]
    assert run(["explain", "bundle", "photos", *arguments]) == 2
    lines = {line["path"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert lines["photos/notes.txt"] == {"path": "photos/notes.txt", "error": "not an image"}
    for name in ("photos/a/one.png", "photos/b/one.png"):
        line = lines[name]
        assert (line["label"], line["method"], line["top_patches"]) == ("newt", "rollout", 1)
        assert 0 < line["probability"] < 1 and 0.25 <= line["top_share"] <= 1
        assert np.sum(line["map"]) == pytest.approx(1) and Path(line["heat_map_file"]).is_file()


def test_names_that_are_too_long_for_a_file_are_cut(place, capsys) -> None:
    name = "ä" * 120 + ".png"
    (place / "photos" / "a" / "one.png").rename(place / name)
    assert run(["explain", "bundle", name, "--out", "why"]) == 0
    assert [path.suffixes for path in (place / "why").iterdir()] == [[".explained", ".png"]]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--label", "rabbit"], "such as cat, dog, newt, got 'rabbit'"),
        (["--method", "guess"], 'Invalid value "guess" for --method'),
        (["--ouch"], "unknown option --ouch"),
    ],
)
def test_wrong_usage_is_reported_before_any_work(place, capsys, flags, message) -> None:
    assert run(["explain", "bundle", "photos/a/one.png", *flags, "--out", "why"]) == 2
    assert message in capsys.readouterr().err
    assert not (place / "why").exists()


def test_an_unwritable_folder_and_missing_images_are_reported(place, capsys) -> None:
    (place / "why").write_text("a file")
    assert run(["explain", "bundle", "photos/a/one.png", "--out", "why"]) == 2
    assert "the heat maps" in capsys.readouterr().err
    (place / "empty").mkdir()
    assert run(["explain", "bundle", "empty", "--out", "other"]) == 2
    assert capsys.readouterr().out == "empty  cannot be read: there are no images in it\n"


def test_a_regression_is_explained_too(place, capsys) -> None:
    make_bundle(
        place / "score", make_model(1), labels=(), metrics={}, target=Target(kind="regression", mean=1000.0, std=0.001)
    )
    assert run(["explain", "score", "photos/a/one.png", "--out", "why"]) == 0
    assert capsys.readouterr().out.startswith("photos/a/one.png  1000  ")


def test_a_prediction_without_evidence_is_described_so() -> None:
    explanation = Explanation(
        map=torch.zeros(2, 2),
        label="cat",
        probability=0.01,
        value=None,
        method="relevance",
        image=torch.zeros(1, 8, 8, dtype=torch.uint8),
        box=(0.0, 0.0, 1.0, 1.0),
    )
    assert describe(explanation) == "cat 1.0%  no patch speaks for it"
