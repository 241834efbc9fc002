"""The benchmark's figures, on a model of which it is known where it looks."""

import pytest
import torch

from benchmarks.trust.explanations import compare, contrast, interval, load_images
from megavit.config.target import Target
from megavit.config.vit import PLAIN_VIT
from megavit.predict.predictor import load
from tests.helpers.brightness_model import COLUMNS, ROWS, make_bright_images, make_brightness_model
from tests.helpers.bundles import make_bundle, make_model

pytestmark = pytest.mark.benchmarks


def test_maps_of_a_model_that_looks_at_one_patch_gain_and_do_not_look_like_a_fresh_models() -> None:
    # A gray picture all over but for the bright patch, so that its contrast finds it too.
    found = compare(make_brightness_model("cls", PLAIN_VIT), make_bright_images(*range(ROWS * COLUMNS)), Target())
    assert list(found) == ["integrated_gradients", "relevance", "rollout", "contrast"]
    for row in found.values():
        assert row["deletion"] < row["random"] < row["insertion"]
        for gain in (row["deletion_gain"], row["insertion_gain"]):
            assert 0 < gain["low"] <= gain["value"] <= gain["high"]
    assert found["contrast"]["untrained"] is None
    assert abs(found["relevance"]["untrained"]["value"]) < 0.5


def test_contrast_is_the_distance_from_the_fill() -> None:
    model = make_brightness_model("cls", PLAIN_VIT)
    found = contrast(model, make_bright_images(2), torch.tensor([0.25]))
    assert found.shape == (1, ROWS, COLUMNS)
    assert found.flatten().tolist() == [0.75**2 if place == 2 else 0.25**2 for place in range(ROWS * COLUMNS)]


def test_the_interval_holds_the_mean() -> None:
    found = interval(torch.tensor([0.0, 1.0, 2.0, 5.0]))
    assert found.low < found.value == 2.0 < found.high


def test_images_are_of_one_size_and_spread_over_the_data(tmp_path) -> None:
    make_bundle(tmp_path / "bundle", make_model(10, channels=1), labels=[str(digit) for digit in range(10)])
    pixels = load_images(load(tmp_path / "bundle", device="cpu"), "demo:digits", 12)
    assert pixels.shape == (12, 1, 8, 8) and pixels.dtype == torch.uint8
    assert len({tuple(one.flatten().tolist()) for one in pixels}) == 12
