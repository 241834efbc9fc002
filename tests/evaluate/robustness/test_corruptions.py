"""Each corruption is the same each time, keeps shape and kind, and does more the stronger it is."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_sample_image

from megavit.data.image_dataset import resize
from megavit.evaluate.robustness.corruptions import COLOR_ONLY, CORRUPTIONS, SEVERITIES
from megavit.evaluate.robustness.robustness import corrupt_image

# Height and width from the smallest that a model takes to a usual one.
SIZES = [(8, 8), (28, 28), (32, 48), (224, 224)]


@cache
def natural(height: int, width: int, channels: int = 3) -> torch.Tensor:
    """A photograph, or channels drawn from it."""
    photograph = torch.from_numpy(np.array(load_sample_image("china.jpg"))).permute(2, 0, 1)
    small = resize(photograph[:, :420, 100:520].contiguous(), height, width)
    return small[[place % 3 for place in range(channels)]].contiguous()


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one.float() - other.float()).abs().mean().item()


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("size", SIZES)
def test_it_changes_a_photograph_and_the_more_the_stronger(name, size):
    picture = natural(*size)
    before = picture.clone()
    apart = [distance(corrupt_image(picture, name, strength, "a picture"), picture) for strength in SEVERITIES]
    assert torch.equal(picture, before)  # nothing is written into what it was given
    assert apart[0] > 0
    assert apart[4] > 1.3 * apart[0]
    if min(size) > 8:  # a coarse grid of 8 pixels fits them now better, now worse
        assert all(later >= earlier for earlier, later in pairwise(apart))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_it_depends_on_the_image_and_on_nothing_else(name):
    picture = natural(28, 28)
    first = corrupt_image(picture, name, 3, "a")
    torch.manual_seed(7)
    assert torch.equal(first, corrupt_image(picture, name, 3, "a"))
    drawn = ("noise", "motion", "haze", "rotation", "occlusion")
    if any(word in name for word in drawn):
        assert any(not torch.equal(first, corrupt_image(picture, name, 3, other)) for other in "bcdefgh")


@given(
    st.sampled_from([name for name in CORRUPTIONS if name not in COLOR_ONLY]),
    st.integers(1, 6),
    st.integers(2, 40),
    st.integers(2, 40),
    st.sampled_from(SEVERITIES),
)
def test_any_channels_and_any_size_keep_their_shape_and_kind(name, channels, height, width, strength):
    picture = torch.randint(0, 256, (channels, height, width), dtype=torch.uint8)
    found = corrupt_image(picture, name, strength, "x")
    assert found.shape == picture.shape and found.dtype == torch.uint8


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in COLOR_ONLY])
@pytest.mark.parametrize("channels", [1, 5])
def test_pictures_of_other_channels_are_changed_too(name, channels):
    picture = natural(28, 28, channels)
    assert not torch.equal(corrupt_image(picture, name, 3, "x"), picture)


def test_colors_vanish_and_brightness_stays_at_full_strength():
    gray = corrupt_image(natural(28, 28), "saturation", 5, "x")
    assert torch.equal(gray[0], gray[1]) and torch.equal(gray[1], gray[2])
    assert gray.float().mean() == pytest.approx(natural(28, 28).float().mean(), abs=10)


def test_an_even_picture_stays_even_under_what_only_moves_or_blurs():
    even = torch.full((3, 20, 30), 77, dtype=torch.uint8)
    for name in ("Gaussian blur", "motion blur", "zoom blur", "pixelate", "rotation", "contrast"):
        assert torch.equal(corrupt_image(even, name, 5, "x"), even), name
