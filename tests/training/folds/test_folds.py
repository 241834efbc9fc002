"""A cross-validation is whole, is resumed to the same result, and says what it measured."""

import csv
import json
import shutil
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import megavit
from megavit.config.recipe import DataRecipe
from megavit.data.load import load_data
from megavit.errors import BundleError, ConfigError, DataError, Interrupted, OutputError
from megavit.evaluation.metrics.classification import ClassificationMetrics
from megavit.evaluation.metrics.regression import RegressionMetrics
from megavit.predict.predictor import load
from megavit.training.clock import Clock
from megavit.training.folds.plan import read_folds_plan
from megavit.training.folds.run import check_folds, make_folds_plan, resume_folds, train_folds
from megavit.training.progress import NullReporter
from megavit.training.report.result import Run
from tests.helpers.listener import Listener
from tests.helpers.training_process import read_weights

FOLDS = 3
STEPS = 6  # of each fold: 2 epochs
SETTINGS: dict[str, Any] = {
    "data": {"folds": FOLDS},
    "model": {"preset": "pico", "image_size": 8, "patch_size": 4, "channels": 1},
    "run": {"epochs": 2, "batch_size": 32, "device": "cpu", "precision": "float32"},
}


def make_data(count: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of the digits 0, 1 and 2."""
    pixels, labels = load_digits(n_class=3, return_X_y=True)
    images = np.asarray(pixels).reshape(-1, 8, 8).astype(np.uint8) * 15
    return images[:count], np.asarray(labels)[:count]


def begin(folder: Path, source: Any = None, reporter: NullReporter | None = None, **changes: Any) -> Run:
    overrides = SETTINGS | {table: SETTINGS.get(table, {}) | keys for table, keys in changes.items()}
    return train_folds(
        make_data() if source is None else source,
        folder,
        recipe="small",
        overrides=overrides,
        reporter=reporter or NullReporter(),
    )


@dataclass
class Stopping(Listener):
    """A reporter that asks the process to stop after a step of a fold."""

    fold: int = 0
    after: int = 0

    def step(self, step: int, steps: int, loss: float) -> None:
        assert steps == STEPS
        if step == self.after and self.lines.count(f"fold {self.fold} of {FOLDS}"):
            signal.raise_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A cross-validation that nobody stopped."""
    return begin(tmp_path_factory.mktemp("folds") / "run")


def read_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_image_is_predicted_once_by_the_model_that_was_not_trained_on_it(finished):
    rows = read_rows(finished.folder)
    assert len(rows) == len({row["name"] for row in rows}) == 150
    right = {fold: [row["label"] == row["prediction"] for row in rows if row["fold"] == fold] for fold in "123"}
    assert sum(map(sum, right.values())) / 150 == pytest.approx(finished.metrics.accuracy.value)
    for fold, found in right.items():
        run = finished.folder / "folds" / fold
        assert load(run).info.metrics["accuracy"]["value"] == pytest.approx(sum(found) / len(found))
        with (run / "samples.csv").open(encoding="utf-8") as file:
            tested = {row["name"] for row in csv.DictReader(file) if row["split"] == "test"}
        assert tested == {row["name"] for row in rows if row["fold"] == fold}


def test_the_bundle_is_the_model_of_median_quality(finished):
    found = finished.cross_validation
    assert not found.is_ensemble  # these few images do not show that averaging brings more than chance
    ranked = sorted(fold.metric.value for fold in found.folds)
    assert found.folds[found.selected - 1].metric.value == ranked[1]
    assert read_weights(finished.folder) == read_weights(finished.folder / "folds" / str(found.selected))
    info = load(finished, verify=True).info
    assert info.data["cross_validation"]["fold"] == found.selected
    card = (finished.bundle / "README.md").read_text()
    assert f"model of fold {found.selected} of 3" in card and "cross-validated accuracy" in card


def test_an_ensemble_is_the_bundle_where_averaging_brings_more_than_chance(tmp_path):
    pixels, labels = make_data(90)
    scores = [float(label) for label in labels]  # of whose errors the mean is never worse than one model
    data = {"train": (pixels[:70], scores[:70]), "test": (pixels[70:], scores[70:])}
    run = begin(tmp_path / "run", data, data={"folds": 2, "val": 0.4}, run=SETTINGS["run"] | {"epochs": 30})
    found = run.cross_validation
    assert found is not None and found.is_ensemble and found.gain is not None and found.gain.is_significant
    predictor = load(run, verify=True)
    folds = [load(tmp_path / "run" / "folds" / fold) for fold in "12"]
    for image in pixels[70:]:
        each = [one.predict(image).value for one in folds]
        assert predictor.predict(image).value == pytest.approx(sum(each) / 2, abs=1e-4)
    assert isinstance(found.test, RegressionMetrics) and predictor.info.metrics == found.test.to_dict()
    with (run.bundle / "samples.csv").open(encoding="utf-8") as file:
        assert Counter(row["split"] for row in csv.DictReader(file)) == {"train": 70, "test": 20}
    said = " ".join(found.describe())
    assert "So the bundle is an ensemble" in said and "on the 20 test images".lower() in said.lower()
    measured = megavit.evaluate(run, (pixels[70:], scores[70:])).metrics
    assert isinstance(measured, RegressionMetrics) and measured.mae.value == pytest.approx(
        found.test.mae.value, rel=1e-4
    )
    with pytest.raises(BundleError, match=f"pass the run of one of its folds, such as {tmp_path}/run/folds/"):
        megavit.export(run, to="onnx", out=tmp_path / "out")


def test_what_was_measured_is_said(finished):
    assert finished.headline.startswith("cross-validated accuracy ") and finished.headline.endswith("on all 150 images")
    said = " ".join(finished.cross_validation.describe())
    assert "one of 3 models, which was not trained on it" in said and "of median quality" in said
    report = (finished.folder / "report.html").read_text(encoding="utf-8")
    assert "Each image was predicted by one of 3 models" in report and "arXiv 2104.00673" in report
    assert finished.cross_validation.describe()[1] in report
    assert (finished.folder / "figures" / "confusion.png").exists()
    found = json.loads(json.dumps(finished.to_dict()))
    assert found["test"]["images"] == 150 and [fold["fold"] for fold in found["cross_validation"]["folds"]] == [1, 2, 3]
    assert finished.headline in finished._repr_html_()
    assert finished.uncertainty.images == 150 and finished.baselines.results[0].comparison.images == 150


def test_each_fold_has_the_recipe_of_the_first_and_a_seed_of_its_own(finished):
    recipes = [load(finished.folder / "folds" / fold).info.recipe for fold in "123"]
    assert [recipe["run"].pop("seed") for recipe in recipes] == [0, 1, 2]
    assert [recipe["data"].pop("fold") for recipe in recipes] == [1, 2, 3]
    assert recipes[0] == recipes[1] == recipes[2]


def test_a_stop_in_the_second_fold_changes_nothing_in_the_result(finished, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(
        Interrupted,
        match=f"after step 4 of {STEPS}; all progress is saved: resume it with megavit train --resume {out}$",
    ):
        begin(out, reporter=Stopping(fold=2, after=4))
    assert not (out / "bundle").exists() and not (out / "folds" / "3").exists()
    first = (out / "folds" / "1" / "fold.json").stat().st_mtime_ns
    with pytest.raises(OutputError, match="already contains a run: resume it"):
        begin(out)
    with pytest.raises(DataError, match="resume it from Python"):
        resume_folds(out, reporter=NullReporter())
    with pytest.raises(DataError, match="has changed since the run began"):
        resume_folds(out, reporter=NullReporter(), source=make_data(149))
    said = Listener()
    again = resume_folds(out, reporter=said, source=make_data())
    assert (out / "folds" / "1" / "fold.json").stat().st_mtime_ns == first
    assert said.lines[0] == "fold 2 of 3" and "resuming after step 4, 67% of the run" in said.lines
    assert again.metrics == finished.metrics
    assert (out / "predictions.csv").read_bytes() == (finished.folder / "predictions.csv").read_bytes()
    for fold in "123":
        assert read_weights(out / "folds" / fold) == read_weights(finished.folder / "folds" / fold)


def test_a_fold_that_was_killed_before_its_plan_was_complete_begins_anew(finished, tmp_path):
    out = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    for part in ("plan.json", "fold.json"):
        (out / "folds" / "2" / part).unlink()
    shutil.rmtree(out / "folds" / "3")
    again = resume_folds(out, reporter=NullReporter(), source=make_data())
    assert again.metrics == finished.metrics and read_weights(out) == read_weights(finished.folder)


def test_the_minutes_are_for_all_folds(tmp_path):
    images = load_data(make_data(), DataRecipe())
    clock = Clock(started=0.0, now=lambda: 30.0)
    plan = make_folds_plan(images, "small", {"data": {"folds": 4}, "run": {"minutes": 10, "epochs": None}}, clock)
    assert plan.minutes is not None and 2.25 < plan.minutes < (10 - 0.5) / 4
    assert make_folds_plan(images, "small", SETTINGS, clock).minutes is None


def test_test_images_of_the_data_are_kept_for_the_bundle(tmp_path):
    pixels, labels = make_data()
    data = {"train": (pixels[:100], labels[:100]), "test": (pixels[100:], labels[100:])}
    run = begin(tmp_path / "run", data, data={"folds": 2}, run=SETTINGS["run"] | {"epochs": 1})
    found = run.cross_validation
    assert found is not None and run.metrics.images == 100
    assert isinstance(found.test, ClassificationMetrics) and found.test.images == 50
    right = [
        load(run).predict(image).label == str(label) for image, label in zip(pixels[100:], labels[100:], strict=True)
    ]
    assert found.test.accuracy.value == pytest.approx(sum(right) / 50)
    assert any("50 test images that the data defines" in line for line in found.describe())


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_labels_and_scores_are_cross_validated_too(kind, tmp_path):
    pixels, labels = make_data(60)
    targets = [[name for name, has in (("even", label % 2 == 0), ("low", label < 2)) if has] for label in labels]
    data = pixels, targets if kind == "multilabel" else [float(label) + 0.5 for label in labels]
    run = begin(tmp_path / "run", data, data={"folds": 2}, run=SETTINGS["run"] | {"epochs": 1})
    assert run.metrics.images == len(read_rows(run.folder)) == 60
    assert run.headline.startswith("cross-validated mean a") and run.baselines is None
    assert run.report is not None and load(run, verify=True).target == kind


def test_too_few_images_are_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(DataError, match=r"8 images .* are too few for 5 folds.*--folds"):
        begin(tmp_path / "run", make_data(8), data={"folds": 5})
    with pytest.raises(DataError, match="too few"):
        check_folds(load_data(make_data(40), DataRecipe(folds=30, fold=1)), 30)


def test_several_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="one process, fold after fold"):
        begin(tmp_path / "run")


def test_the_plan_is_read_as_it_was_written(finished):
    plan = read_folds_plan(finished.folder)
    assert (plan.folds, plan.minutes, plan.source, plan.recipe) == (3, None, "images in memory", "small")
    assert plan.overrides["run"]["epochs"] == 2
