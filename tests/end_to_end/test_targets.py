"""Labels and scores from a table to their answers, and learning from few images."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from megavit.cli.commands.evaluate import evaluate
from megavit.data.dataset import read_samples
from megavit.errors import DataError
from megavit.evaluation.metrics.classification import ClassificationMetrics
from megavit.evaluation.metrics.regression import RegressionMetrics
from megavit.predict.predictor import load
from megavit.training.progress import NullReporter
from megavit.training.run import train
from tests.end_to_end.conftest import QUICK
from tests.helpers.command_line import run_megavit, run_megavit_json
from tests.helpers.digits import make_digits_folder
from tests.helpers.training import read_validations

COUNT = 80
TWELVE = ["12" if option == "3" else option for option in QUICK]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of which each half is bright or dark, with the tables that say so: which halves, and how bright."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    labels, scores = ["path,labels"], ["path;score"]
    for number in range(COUNT):
        left, right = random.integers(0, 2, size=2)
        pixels = random.integers(0, 60, size=(8, 8)) + 180 * np.repeat([left, right], 4)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        names = [name for name, lit in (("left", left), ("right", right)) if lit]
        labels.append(f"{number}.png,{'|'.join(names)}")
        scores.append(f"{number}.png;{1000 + pixels.mean():.2f}")
    (folder / "labels.csv").write_text("\n".join(labels))
    (folder / "score.csv").write_text("\n".join(scores))
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_labels_from_a_table_to_answers(pictures, tmp_path):
    answer = run_megavit_json("train", pictures / "labels.csv", "--out", "run", *TWELVE, cwd=tmp_path)
    assert answer["test"]["mean_average_precision"]["value"] > 0.9
    bundle = json.loads((tmp_path / "run" / "bundle" / "megavit.json").read_text())
    assert bundle["labels"] == ["left", "right"] and bundle["target"]["kind"] == "multilabel"
    assert len(bundle["target"]["thresholds"]) == 2
    *_, last = read_validations(tmp_path / "run")
    assert last["metric"] == "mean average precision"

    again = run_megavit_json("evaluate", "run", pictures / "labels.csv", cwd=tmp_path)
    assert again["metrics"] == answer["test"] and again["target"] == "multilabel"
    done = run_megavit("predict", "run", pictures, "--out", "a.csv", "--verify", cwd=tmp_path)
    assert done.returncode == 2  # for the tables, which are no images
    reported = {Path(row["path"]).name: row["labels"] for row in rows(tmp_path / "a.csv") if not row["error"]}
    truth = {row["path"]: row["labels"] for row in rows(pictures / "labels.csv")}
    assert len(reported) == COUNT
    right = sum(set(reported[name].split("|")) == set(labels.split("|")) for name, labels in truth.items())
    assert right > 0.8 * COUNT


def test_scores_from_a_table_to_answers(pictures, tmp_path, capsys):
    table, run = str(pictures / "score.csv"), tmp_path / "run"
    changes = {"run": {"epochs": 12, "batch_size": 32, "device": "cpu", "precision": "float32", "workers": 0}}
    test = train(table, run, recipe="auto", overrides=changes, reporter=NullReporter()).metrics
    assert isinstance(test, RegressionMetrics) and test.r2
    assert test.mae.value < 0.5 * test.baseline_mae and test.r2.value > 0.5
    assert (run / "figures" / "scores.png").is_file()
    evaluate(run, table)
    assert "of always predicting the median" in capsys.readouterr().out
    with pytest.raises(DataError, match="the column score"):
        evaluate(run, str(pictures / "labels.csv"))

    predictor = load(run, verify=True)
    tested = [row for row in read_samples(run / "samples.csv") if row.split == "test"]
    errors = [abs(predictor.predict(pictures / row.name).score - float(row.target)) for row in tested]
    assert np.mean(errors) == pytest.approx(test.mae.value, rel=1e-3)


def test_two_hundred_images_are_enough_to_learn_every_class(tmp_path):
    """The failure of small data sets: one class for every image."""
    make_digits_folder(tmp_path / "digits", range(10), slice(20))
    changes = {"run": {"epochs": 15, "device": "cpu", "precision": "float32", "workers": 0}}
    trained = train(
        str(tmp_path / "digits"), tmp_path / "run", recipe="auto", overrides=changes, reporter=NullReporter()
    )
    assert isinstance(trained.metrics, ClassificationMetrics)
    assert sum(answers > 0 for answers in np.sum(trained.metrics.confusion, axis=0)) >= 8
    assert trained.metrics.accuracy.low > 0.4
