from dataclasses import replace
from pathlib import Path

import pytest

from megavit.config.recipe import DataRecipe
from megavit.data.load import load_data
from megavit.errors import DataError
from megavit.evaluation.inference import SplitSelection
from megavit.evaluation.metrics.classification import ClassificationMetrics
from megavit.evaluation.uncertainty.uncertainty import MIN_IMAGES, apply_calibration, calibrate
from megavit.predict.predictor import load
from megavit.weights.bundle.bundle import copy_bundle
from tests.helpers.bundles import make_bundle, make_model

DIGITS = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def digits():
    return load_data("demo:digits", DataRecipe(val=0, test=0), lambda done, total: None)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted") / "bundle"
    make_bundle(folder, make_model(10, channels=1), DIGITS)
    return folder


def test_a_bundle_that_was_not_calibrated_becomes_one_that_is(bundle, digits, tmp_path):
    predictor = load(bundle)
    samples = digits.samples[:600]
    found = calibrate(predictor, digits, SplitSelection(samples, 0, "all"), lambda done, total: None)
    assert found.calibration.images == 240 and found.metrics.images == 180
    # Random weights know nothing, and are much too sure.
    assert found.calibration.temperature > 2 and found.uncertainty.uncalibrated and found.uncertainty.calibrated
    assert found.uncertainty.calibrated.ece.value < found.uncertainty.uncalibrated.ece.low
    copy_bundle(bundle, tmp_path / "out", replace(predictor.info, calibration=found.calibration), found.tensors)
    one = load(tmp_path / "out", verify=True).predict(digits.load_pixels(samples[0]), coverage=0.9)
    assert one.prediction_set and one.out_of_distribution is not None
    again = calibrate(load(tmp_path / "out"), digits, SplitSelection(samples, 0, "all"), lambda done, total: None)
    assert again.calibration.temperature == pytest.approx(found.calibration.temperature)


def test_figures_and_card_of_a_calibrated_bundle_are_of_its_new_answers(bundle, digits, tmp_path):
    predictor = load(bundle)
    choice = SplitSelection(digits.samples[:600], 0, "all")
    found = calibrate(predictor, digits, choice, lambda done, total: None, temperature_only=True)
    assert found.calibration.smoothing == 0
    copy_bundle(bundle, tmp_path / "out", apply_calibration(predictor.info, found), found.tensors)
    info = load(tmp_path / "out").info
    assert isinstance(found.metrics, ClassificationMetrics)
    assert info.metrics == found.metrics.to_dict() != predictor.info.metrics
    before, card = ((folder / "README.md").read_text() for folder in (bundle, tmp_path / "out"))
    assert "Right on 90.0%" in before
    assert "90.0%** of 40" not in card
    assert f"**Right on {found.metrics.accuracy.value:.1%}** of 180 test images" in card
    assert "recalibrated on 240 images of" in card
    assert "the figures above were measured on 180 other images of it" in card


def test_a_converted_model_has_figures_once_it_is_calibrated(digits, tmp_path):
    make_bundle(tmp_path / "b", make_model(10, channels=1), DIGITS, metrics={}, data={"source": "theirs"})
    predictor = load(tmp_path / "b")
    found = calibrate(predictor, digits, SplitSelection(digits.samples[:600], 0, "all"), lambda done, total: None)
    copy_bundle(tmp_path / "b", tmp_path / "out", apply_calibration(predictor.info, found), found.tensors)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "has not been evaluated" not in card
    assert "Converted from theirs" in card
    assert "of 180 test images" in card


def test_too_few_images_are_refused(bundle, digits):
    with pytest.raises(DataError, match=f"pass at least {MIN_IMAGES} that"):
        calibrate(
            load(bundle), digits, SplitSelection(digits.samples[: MIN_IMAGES - 1], 0, "all"), lambda done, total: None
        )
