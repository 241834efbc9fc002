"""`megavit train --folds`: one command for all folds, resumed by the folder of the whole."""

import json
from pathlib import Path

import pytest

from megavit.cli.app import run
from megavit.training.folds.plan import read_folds_plan
from tests.helpers.digits import make_digits_folder

TINY = ["--model", "pico", "--image-size", "8", "--patch-size", "4", "--batch-size", "32", "--device", "cpu"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Images of two digits, and a cross-validation of them."""
    folder = tmp_path_factory.mktemp("folds")
    data = make_digits_folder(folder / "data", (0, 1), slice(0, 20))
    out = folder / "run"
    assert run(["train", str(data), "--folds", "2", "--epochs", "1", "--out", str(out), *TINY]) == 0
    return data, out


def test_a_finished_one_is_shown_again_by_resuming_it(trained, capsys):
    _, out = trained
    assert run(["train", "--resume", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["test"]["images"] == 40 and found["bundle"] == str(out / "bundle")
    assert [fold["images"]["test"] for fold in found["cross_validation"]["folds"]] == [20, 20]
    assert run(["train", "--resume", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "cross-validated accuracy" in shown and "that of fold" in shown and "predictions.csv" in shown


def test_images_that_were_moved_are_recorded(trained, tmp_path, capsys):
    data, out = trained
    moved = data.rename(tmp_path / "moved")
    try:
        assert run(["train", "--resume", str(out)]) == 2
        assert "no longer at" in capsys.readouterr().err
        assert run(["train", str(moved), "--resume", str(out)]) == 0
        assert read_folds_plan(out).source == str(moved)
    finally:
        moved.rename(data)
        assert run(["train", str(data), "--resume", str(out)]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume", "RUN", "--epochs", "+1"], "is a cross-validation, which is resumed with its own settings"),
        (["--resume", "RUN", "--minutes", "+1"], "runs of their own"),
        (["DATA", "--folds", "1"], "folds must be an integer of at least 2, got 1"),
        (["DATA", "--folds", "30"], "too few for 30 folds"),
        (["DATA", "--folds", "2", "--out", "RUN"], "already contains a run: resume it with --resume"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(arguments, message, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"DATA": str(trained[0]), "RUN": str(trained[1])}
    assert run(["train", *(names.get(word, word) for word in arguments)]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
