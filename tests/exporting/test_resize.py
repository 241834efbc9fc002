"""Resizing by matrices against what training and prediction resize with."""

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_sample_images

from megavit.config.preprocessing import CropRounding, Interpolation, Preprocessing
from megavit.data.image_dataset import preprocess
from megavit.exporting.resize import input_channels, resize_and_crop

SIDES = st.integers(1, 70)


def apart(image: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """By how many levels each pixel differs, for uint8 (C, H, W)."""
    size = preprocessing.size_for(*image.shape[1:])
    given = image.expand(input_channels(preprocessing), -1, -1) if image.shape[0] == 1 else image
    return (resize_and_crop(given[None], preprocessing)[0] - preprocess(image, size, preprocessing).float()).abs()


@given(
    height=SIDES,
    width=SIDES,
    sides=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    resize=st.sampled_from(["none", "shorter", "both"]),
    margins=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    larger=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    rounding=st.sampled_from(get_args(CropRounding)),
    interpolation=st.sampled_from(get_args(Interpolation)),
    channels=st.sampled_from([1, 3, 5]),
    seed=st.integers(0, 10**6),
)
def test_noise_of_any_size_is_resized_to_the_same_pixels(
    height, width, sides, resize, margins, larger, rounding, interpolation, channels, seed
):
    crop = (sides[0] + larger[0], sides[1] + larger[1])
    kept: dict[str, int | tuple[int, int] | None] = {
        "none": None,
        "shorter": max(crop) + margins[0],
        "both": (crop[0] + margins[0], crop[1] + margins[1]),
    }
    preprocessing = Preprocessing(
        height=sides[0],
        width=sides[1],
        channels=channels,
        interpolation=interpolation,
        resize=kept[resize],
        crop_size=None if resize == "none" else crop,
        crop_rounding=rounding,
    )
    shape = (3 if channels == 1 else channels, height, width)
    image = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    found = apart(image, preprocessing)
    assert found.max() <= 1
    assert (found > 0).sum() <= 2 + found.numel() / 100  # the very halves


@pytest.mark.parametrize("interpolation", get_args(Interpolation))
def test_pixels_that_are_not_rounded(interpolation):
    preprocessing = Preprocessing(
        height=24, width=32, channels=3, interpolation=interpolation, resize=37, resize_dtype="float32"
    )
    for photo in load_sample_images().images:
        image = torch.from_numpy(photo.copy()).permute(2, 0, 1)
        expected = preprocess(image, preprocessing.size_for(*image.shape[1:]), preprocessing) * 255
        torch.testing.assert_close(resize_and_crop(image[None], preprocessing)[0], expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("interpolation", get_args(Interpolation))
@pytest.mark.parametrize("size", [(224, 224), (32, 48), (500, 700)])
def test_photographs(interpolation, size):
    preprocessing = Preprocessing(height=size[0], width=size[1], channels=3, interpolation=interpolation)
    for photo in load_sample_images().images:
        found = apart(torch.from_numpy(photo.copy()).permute(2, 0, 1), preprocessing)
        assert found.max() <= 2
        assert (found > 0).float().mean() < 1e-3


@pytest.mark.parametrize("resize", [256, (300, 260)])
def test_the_middle_of_photographs(resize):
    preprocessing = Preprocessing(height=224, width=224, channels=3, resize=resize)
    for photo in load_sample_images().images:
        found = apart(torch.from_numpy(photo.copy()).permute(2, 0, 1), preprocessing)
        assert found.max() <= 1
        assert (found > 0).float().mean() < 1e-2


def test_an_image_of_the_right_size_is_left_as_it_is():
    image = torch.randint(0, 256, (2, 3, 9, 11), dtype=torch.uint8)
    assert torch.equal(resize_and_crop(image, Preprocessing(height=9, width=11, channels=3)), image.float())


def test_gray_in_three_channels_stays_what_it_was():
    image = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(resize_and_crop(image, Preprocessing(height=16, width=16, channels=1)), image[:, :1].float())
