"""An overlay shows the picture, and is bright exactly where the map is high."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from megavit.config.preprocessing import Preprocessing
from megavit.config.vit import Size
from megavit.data.image_dataset import preprocess
from megavit.explain.overlay import MIN_SIDE, draw_overlay, visible_box


def light(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L")).astype(float)


@given(height=st.integers(1, 500), width=st.integers(1, 500), rows=st.integers(1, 5), columns=st.integers(1, 5))
def test_it_has_the_pictures_size_or_the_first_multiple_that_can_be_seen(
    height: int, width: int, rows: int, columns: int
) -> None:
    found = draw_overlay(torch.rand(rows, columns), torch.zeros(3, height, width, dtype=torch.uint8))
    assert found.mode == "RGB"
    times = found.width // width
    assert found.size == (width * times, height * times)
    assert max(found.size) >= MIN_SIDE and (times == 1 or max(height, width) * (times - 1) < MIN_SIDE)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("hot", [(0, 0), (1, 2), (2, 3)])
def test_the_brightest_place_is_the_highest_patch(channels: int, hot: tuple[int, int]) -> None:
    relevance = torch.zeros(3, 4)
    relevance[hot] = 0.7
    shown = light(draw_overlay(relevance, torch.full((channels, 300, 400), 100, dtype=torch.uint8)))
    by_patch = shown.reshape(3, 100, 4, 100).mean(axis=(1, 3))
    assert np.unravel_index(by_patch.argmax(), by_patch.shape) == hot
    assert by_patch.max() > 2 * np.median(by_patch)


def test_brightness_rises_with_the_relevance() -> None:
    shown = light(draw_overlay(torch.linspace(0, 1, 10)[None], torch.full((1, 100, 1000), 128, dtype=torch.uint8)))
    by_patch = shown.reshape(100, 10, 100).mean(axis=(0, 2))
    assert (np.diff(by_patch) > 0).all()


def test_the_picture_shows_through() -> None:
    picture = torch.zeros(3, 300, 300, dtype=torch.uint8)
    picture[:, :, 150:] = 255
    shown = light(draw_overlay(torch.full((2, 2), 0.25), picture))
    assert shown[:, 160:].min() - shown[:, :140].max() == pytest.approx(0.4 * 255, abs=2)


def test_a_map_of_nothing_is_a_dark_picture() -> None:
    shown = light(draw_overlay(torch.zeros(2, 2), torch.full((1, 224, 224), 100, dtype=torch.uint8)))
    assert shown.max() == shown.min() == pytest.approx(40, abs=2)


def test_what_the_model_does_not_see_is_dark() -> None:
    picture = torch.full((3, 224, 448), 100, dtype=torch.uint8)
    shown = light(draw_overlay(torch.ones(3, 3), picture, (0.25, 0.0, 0.75, 1.0)))
    assert shown[:, :112].max() == shown[:, 336:].max() == pytest.approx(40, abs=2)
    assert shown[:, 112:336].min() > 150


@pytest.mark.parametrize("resize", [None, 8, 12, (16, 10)])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (60, 120), (200, 50)])
def test_what_is_seen_is_what_the_model_gets(resize: Size | None, height: int, width: int) -> None:
    preprocessing = Preprocessing(height=8, width=8, channels=1, resize=resize)
    left, top, right, bottom = visible_box(height, width, preprocessing)
    assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
    picture = torch.zeros(1, height, width, dtype=torch.uint8)
    picture[:, round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = 255
    for sign in (picture, 255 - picture):
        got = preprocess(sign, preprocessing.size_for(height, width), preprocessing).float()
        # At its edge a resized pixel has something of what is beyond.
        assert abs(got[:, 1:-1, 1:-1].mean() - sign[0, height // 2, width // 2]) < 8
    if resize is None:
        assert (left, top, right, bottom) == (0, 0, 1, 1)
