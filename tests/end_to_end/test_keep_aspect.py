"""Pictures whose class is their shape, which squashing them into a square would hide."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import megavit as package
from megavit.errors import ConfigError
from megavit.training.progress import NullReporter
from megavit.training.run import train
from tests.helpers.bundles import make_bundle
from tests.helpers.command_line import run_megavit, run_megavit_json

PER_CLASS = 40
SETTINGS = ["--epochs", "12", "--batch-size", "16", "--precision", "float32", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the shapes kept, beside its data: noise of one kind, wide in one class and tall in the other."""
    folder = tmp_path_factory.mktemp("shapes")
    random = np.random.default_rng(0)
    for name in ("tall", "wide"):
        (folder / "data" / name).mkdir(parents=True)
        for i in range(PER_CLASS):
            short = int(random.integers(16, 33))
            long = round(short * random.uniform(1.7, 2.3))
            sides = (short, long) if name == "wide" else (long, short)
            noise = random.normal(128, 20, sides).clip(0, 255).astype(np.uint8)
            Image.fromarray(noise).save(folder / "data" / name / f"{i:02}.png")
    done = run_megavit("train", "data", "--out", "run", "--keep-aspect", *SETTINGS, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "cannot be mixed in pairs" in done.stderr
    return folder / "run"


def test_they_are_told_apart_by_evaluate(run: Path) -> None:
    measured = run_megavit_json("evaluate", "run", "data", "--verify", "--keep-aspect", cwd=run.parent)
    assert measured["metrics"]["accuracy"]["value"] == 1.0


def test_they_are_told_apart_by_predict_one_by_one_and_together(run: Path) -> None:
    predictor = package.load(run, device="cpu", verify=True)
    assert predictor.info.preprocessing.keep_aspect
    random = np.random.default_rng(1)
    new = [random.normal(128, 20, sides).clip(0, 255).astype(np.uint8) for sides in [(20, 44), (44, 20), (66, 30)]]
    together = predictor.predict(new)
    assert [prediction.label for prediction in together] == ["wide", "tall", "tall"]
    for image, prediction in zip(new, together, strict=True):
        assert predictor.predict(image).probability == pytest.approx(prediction.probability, abs=1e-5)
    done = run_megavit("predict", "run", "data/wide", "data/tall", cwd=run.parent)
    assert done.returncode == 0
    assert done.stdout.count("\n") == 2 * PER_CLASS


def test_a_bundle_trained_without_is_asked_with(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (10, 40, 3), dtype=np.uint8)).save(tmp_path / "wide.png")
    kept = run_megavit_json("predict", "bundle", "wide.png", "--keep-aspect", "--verify", cwd=tmp_path)
    predictors = [package.load(tmp_path / "bundle", device="cpu", keep_aspect=choice) for choice in (True, False)]
    expected, squashed = (predictor.predict(tmp_path / "wide.png").probability for predictor in predictors)
    assert kept["probability"] == pytest.approx(expected, abs=1e-5)
    assert kept["probability"] != pytest.approx(squashed, abs=1e-3)


def test_the_bundle_says_how_its_images_are_resized(run: Path) -> None:
    assert (
        "with their aspect ratio kept, to at most 64 patches of 4 × 4 pixels"
        in (run / "bundle" / "README.md").read_text()
    )


def test_mixing_is_refused_before_any_image_is_read(tmp_path: Path) -> None:
    changes = {"data": {"keep_aspect": True}, "augment": {"cutmix": 1.0}}
    with pytest.raises(ConfigError, match="which cutmix cannot mix"):
        train("nowhere", tmp_path / "run", recipe="auto", overrides=changes, reporter=NullReporter())
