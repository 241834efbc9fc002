"""Pretraining without labels: what is learned, what is said, what is written, and going on after a stop."""

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits

import megavit
from megavit.cli.app import run as run_command
from megavit.config.pretraining import PretrainingRecipe
from megavit.errors import ConfigError, DataError, Interrupted
from megavit.training.pretraining.objective import describe_collapse
from megavit.weights.bundle.bundle import load_bundle
from tests.helpers.bundles import make_bundle, make_model
from tests.helpers.digits import make_digits_folder
from tests.helpers.listener import Listener

PIXELS = load_digits(return_X_y=True)[0]
IMAGES = (PIXELS.reshape(-1, 8, 8)[:64] * 255 / 16).round().astype("uint8")
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
    assert bundle.model.config.num_classes == 0 and bundle.info.labels == [] and bundle.info.metrics == {}
    assert run.images == 72 and run.epochs == 3 and run.dim == 64 and 1 < run.effective_rank <= 64
    assert run.neighbor_accuracy is not None and 0 <= run.neighbor_accuracy <= 1
    card = (run.bundle / "README.md").read_text()
    assert "learned from 72 images without their labels by LeJEPA" in card and "Trained on" in card


def test_a_training_starts_from_it(run: megavit.PretrainingRun, folder: Path, tmp_path: Path) -> None:
    trained = megavit.train(
        folder, out=tmp_path / "run", from_=run, finetune="probe", settings={"run": {"epochs": 1, "device": "cpu"}}
    )
    assert trained.load().labels == ("0", "1", "2")
