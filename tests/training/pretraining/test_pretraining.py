"""Pretraining without labels: what is learned, what is said, what is written, and going on after a stop."""

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import megavit
from megavit.cli.app import run as run_command
from megavit.config.recipe import Recipe
from megavit.config.recipes import get_recipe
from megavit.config.serialization import from_dict, read_toml
from megavit.errors import ConfigError, DataError, Interrupted
from megavit.training.pretraining.objective import describe_collapse
from megavit.weights.bundle.bundle import load_bundle
from megavit.weights.pretrained.pretrained import load_pretrained
from tests.helpers.bundles import make_bundle, make_model
from tests.helpers.digits import make_digits_folder
from tests.helpers.listener import Listener

IMAGES = (np.asarray(load_digits(return_X_y=True)[0]).reshape(-1, 8, 8)[:64] * 255 / 16).round().astype("uint8")
SETTINGS: dict[str, dict[str, Any]] = {
    "model": {"preset": "pico", "patch_size": 4, "channels": 1, "image_size": 8},
    "run": {"precision": "float32", "device": "cpu", "batch_size": 16, "epochs": 3},
    "pretraining": {"projection": 8, "directions": 32},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_digits_folder(tmp_path_factory.mktemp("digits") / "digits", range(3), slice(0, 24))


def pretrain(source: Any, out: Path, reporter: Any = None, **changes: dict[str, Any]) -> megavit.PretrainingRun:
    settings = SETTINGS | {name: SETTINGS.get(name, {}) | keys for name, keys in changes.items()}
    return megavit.pretrain(source, out=out, settings=settings, reporter=reporter)


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> megavit.PretrainingRun:
    return pretrain(folder, tmp_path_factory.mktemp("pretrained") / "run")


def read_weights(run: megavit.PretrainingRun) -> bytes:
    return (run.bundle / "model.safetensors").read_bytes()


def test_the_bundle_has_features_and_no_head(run: megavit.PretrainingRun) -> None:
    bundle = load_bundle(run.bundle, verify=True)
    assert bundle.info.model.num_classes == 0 and bundle.info.labels == [] and bundle.info.metrics == {}
    assert run.images == 72 and run.epochs == 3 and run.dim == 64 and 1 < run.effective_rank <= 64
    assert run.neighbor_accuracy is not None and 0 <= run.neighbor_accuracy <= 1
    card = (run.bundle / "README.md").read_text()
    assert "learned from 72 images without their labels by LeJEPA" in card and "Trained on" in card


def test_a_training_starts_from_it(run: megavit.PretrainingRun, folder: Path, tmp_path: Path) -> None:
    trained = megavit.train(
        folder, out=tmp_path / "run", from_=run, finetune="probe", settings={"run": {"epochs": 1, "device": "cpu"}}
    )
    assert trained.load().labels == ("0", "1", "2")


def test_it_is_trained_as_from_scratch(run: megavit.PretrainingRun, folder: Path, tmp_path: Path) -> None:
    settings = {"run": {"epochs": 1, "device": "cpu"}}
    listener = Listener()
    trained = megavit.train(folder, out=tmp_path / "run", from_=run, settings=settings, reporter=listener)
    results = [line.split()[0] for line in listener.lines if "on held-out images" in line]
    assert results == ["knn", "probe", "all"]
    recipe = from_dict(Recipe, read_toml(trained.folder / "recipe.toml"), "the recipe")
    assert recipe.optimizer == get_recipe("small").optimizer


def test_a_stopped_run_goes_on_to_the_same_bits(run: megavit.PretrainingRun, folder: Path, tmp_path: Path) -> None:
    class Stopping(Listener):
        def step(self, step: int, steps: int, loss: float) -> None:
            if step == 7:
                raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="resume it with megavit pretrain --resume"):
        pretrain(folder, tmp_path / "run", Stopping(), run={"checkpoint_seconds": 1e-6})
    listener = Listener()
    resumed = megavit.resume_pretraining(tmp_path / "run", reporter=listener)
    assert any(line.startswith("resuming after step 6") for line in listener.lines)
    assert read_weights(resumed) == read_weights(run)
    assert resumed.to_dict()["effective_rank"] == run.effective_rank


def test_images_without_classes_are_watched_by_their_rank(folder: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    for index, path in enumerate(sorted(folder.rglob("*.png"))[::2]):
        (flat / f"day {index % 2}" / "camera").mkdir(parents=True, exist_ok=True)
        (flat / f"day {index % 2}" / "camera" / f"{index}.png").write_bytes(path.read_bytes())
    for path in (flat / "day 0" / "camera").iterdir():
        path.rename(flat / path.name)
    done = pretrain(flat, tmp_path / "run", run={"epochs": 1})
    assert done.neighbor_accuracy is None and done.images == 36 and done.effective_rank > 1


def test_python_objects_are_learned_from(tmp_path: Path) -> None:
    done = pretrain((IMAGES, ["0"] * 32 + ["1"] * 32), tmp_path / "run", run={"epochs": 1})
    assert done.images == 64 and done.neighbor_accuracy is not None


def test_pretraining_starts_from_a_bundle_and_names_its_origin(folder: Path, tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle", make_model(3, channels=1, seed=3))
    settings = {"run": {"epochs": 1, "device": "cpu", "precision": "float32"}}
    done = megavit.pretrain(folder, out=tmp_path / "run", from_=tmp_path / "bundle", settings=settings)
    info = load_bundle(done.bundle).info
    assert info.data["origin"] == str(tmp_path / "bundle") and info.model.dim == 8
    assert not load_pretrained(str(done.bundle)).is_pretraining


def test_collapsed_embeddings_are_said(folder: Path, tmp_path: Path) -> None:
    listener = Listener()
    done = pretrain(
        folder, tmp_path / "run", listener, pretraining={"regularization": 0.0}, run={"epochs": 12},
        optimizer={"learning_rate": 0.05, "kind": "adamw"},
    )  # fmt: skip
    assert "have collapsed" in done.warning and done.warning in listener.lines
    assert f"**Warning**: {done.warning}" in (done.bundle / "README.md").read_text()


@pytest.mark.parametrize(
    ("rank", "std", "collapsed"), [(40.0, 0.9, False), (2.5, 0.9, True), (1.0, 0.0, True), (40.0, 0.01, True)]
)
def test_a_small_rank_or_deviation_is_a_collapse(rank: float, std: float, collapsed: bool) -> None:
    assert bool(describe_collapse(rank, std, 128)) == collapsed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"keep_aspect": True}}, "leave out keep_aspect"),
        ({"model": {"pretrained": "auto", "preset": "auto"}}, "got auto"),
        ({"run": {"patience": 2}}, "patience is for training with labels"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    folder: Path, tmp_path: Path, changes: dict[str, dict[str, Any]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        pretrain(folder, tmp_path / "run", **changes)


def test_each_command_resumes_its_own_runs(run: megavit.PretrainingRun, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="megavit pretrain --resume"):
        megavit.resume(run.folder)
    settings = {"model": SETTINGS["model"], "run": {"epochs": 1, "device": "cpu"}}
    trained = megavit.train(folder, out=tmp_path / "run", from_="scratch", settings=settings, report=False)
    with pytest.raises(ConfigError, match="megavit train --resume"):
        megavit.resume_pretraining(trained.folder)
    with pytest.raises(ConfigError, match="for megavit pretrain"):
        megavit.train(folder, out=tmp_path / "other", settings={"pretraining": {"projection": 8}})


def test_changed_images_end_the_run(run: megavit.PretrainingRun, tmp_path: Path) -> None:
    other = make_digits_folder(tmp_path / "digits", range(3), slice(1, 25))
    with pytest.raises(DataError, match="has changed since the run began"):
        megavit.resume_pretraining(run.folder, other)


def test_the_command_says_what_was_learned(folder: Path, tmp_path: Path) -> None:
    printed = io.StringIO()
    arguments = ["--epochs", "1", "--model", "pico", "--image-size", "8", "--device", "cpu", "--precision", "float32"]
    with redirect_stdout(printed):
        assert run_command(["pretrain", str(folder), "--out", str(tmp_path / "run"), *arguments]) == 0
        assert run_command(["pretrain", "--resume", str(tmp_path / "run"), "--epochs", "2"]) == 2
        assert run_command(["pretrain"]) == 2
    assert "features from 72 images in 1 epochs: effective rank" in printed.getvalue().replace("\n", " ")
    assert f"--from {tmp_path / 'run'}" in printed.getvalue().replace("\n", "")
