"""Each corruption is the same each time, keeps shape and kind, and does more the stronger it is."""

import colorsys
import io
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_image

from megavit.data.image_dataset import resize
from megavit.evaluation.robustness import filters
from megavit.evaluation.robustness.corruptions import COLOR_ONLY, CORRUPTIONS, SEVERITIES
from megavit.evaluation.robustness.robustness import corrupt_image

UNEVEN = ("glass blur", "snow", "fog", "saturate", "pixelate")
"""Those whose severities are not in the order of the pixels' differences, the last one on small images."""

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
    assert apart[4] > 1.2 * apart[0]
    if min(size) > 8 and name not in UNEVEN:  # a coarse grid of 8 pixels fits them now better, now worse
        assert all(later >= earlier for earlier, later in pairwise(apart))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_it_depends_on_the_image_and_on_nothing_else(name):
    picture = natural(28, 28)
    first = corrupt_image(picture, name, 3, "a")
    torch.manual_seed(7)
    assert torch.equal(first, corrupt_image(picture, name, 3, "a"))
    drawn = ("noise", "glass", "motion", "snow", "fog", "elastic", "rotation", "occlusion")
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


def test_an_even_picture_stays_even_under_what_only_moves_or_blurs():
    even = torch.full((3, 20, 30), 77, dtype=torch.uint8)
    still = ("Gaussian blur", "glass blur", "motion blur", "zoom blur", "elastic transform", "pixelate", "rotation")
    for name in (*still, "contrast"):
        assert torch.equal(corrupt_image(even, name, 5, "x"), even), name


def even_picture(level: int) -> torch.Tensor:
    return torch.full((3, 224, 224), level, dtype=torch.uint8)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_the_variance_of_imagenet_c(severity):
    # Counted within the range, where nothing is cut off.
    gauss = corrupt_image(even_picture(128), "Gaussian noise", severity, "x").double()
    deviation = 255 * (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    below = torch.distributions.Normal(0.0, deviation).cdf(torch.tensor(-64.0)).item()
    assert (gauss < 64).double().mean().item() == pytest.approx(below, abs=0.005)
    shot = corrupt_image(even_picture(64), "shot noise", severity, "x").double()
    photons = (60, 25, 12, 5, 3)[severity - 1]
    none = np.exp(-photons * 64 / 255)
    assert (shot == 0).double().mean().item() == pytest.approx(none, abs=0.005)
    impulses = corrupt_image(even_picture(64), "impulse noise", severity, "x")
    for level in (0, 255):
        share = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1] / 2
        assert (impulses == level).double().mean().item() == pytest.approx(share, abs=0.002)


@pytest.mark.parametrize("name", ["brightness", "saturate"])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_colors_change_as_in_hsv(name, severity):
    picture = natural(8, 8).clone()
    picture[:, 0, 0], picture[:, 0, 1] = 0, 90  # black and gray

    def expected(pixel: list[int]) -> list[int]:
        hue, saturation, value = colorsys.rgb_to_hsv(*(level / 255 for level in pixel))
        if name == "brightness":
            value = min(value + 0.1 * severity, 1)
        else:
            factor, offset = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))[severity - 1]
            saturation = min(saturation * factor + offset, 1)
        return [int(255 * level + 1e-3) for level in colorsys.hsv_to_rgb(hue, saturation, value)]

    pixels = picture.flatten(1).T.tolist()
    found = corrupt_image(picture, name, severity, "x").flatten(1).T.tolist()
    assert found == [expected(pixel) for pixel in pixels]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_is_a_share_of_the_distance_from_each_channels_mean(severity):
    picture = natural(28, 28)
    mean = picture.double().mean(dim=(1, 2), keepdim=True)
    expected = mean + (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1] * (picture - mean)
    assert torch.equal(corrupt_image(picture, "contrast", severity, "x"), (expected + 1e-3).to(torch.uint8))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_and_pixelate_are_pillows(severity):
    picture = natural(32, 48)
    whole = Image.fromarray(picture.permute(1, 2, 0).numpy())
    file = io.BytesIO()
    whole.save(file, format="JPEG", quality=(25, 18, 15, 10, 7)[severity - 1])
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]
    small = whole.resize((int(48 * share), int(32 * share)), Image.Resampling.BOX)
    coarse = small.resize((48, 32), Image.Resampling.NEAREST)
    for name, expected in (("JPEG", Image.open(file)), ("pixelate", coarse)):
        found = corrupt_image(picture, name, severity, "x").permute(1, 2, 0).numpy()
        assert np.array_equal(found, np.array(expected)), name


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_point_becomes_a_disk_of_the_radius(severity):
    point = torch.zeros(1, 224, 224, dtype=torch.uint8)
    point[0, 112, 112] = 255
    radius = (3, 4, 6, 8, 10)[severity - 1]
    blurred = filters.disk_blur(point.float(), radius, 0.1, min_half=8, softening_half=1)[0]
    squares = (torch.arange(224) - 112).square()
    inside = squares[:, None] + squares <= radius**2
    assert torch.allclose(blurred, 255 * inside / inside.sum(), atol=1e-3)


@pytest.mark.parametrize(("name", "severity"), [("defocus blur", 4), ("Gaussian blur", 5), ("motion blur", 2)])
def test_blurs_are_as_wide_in_relation_to_the_image_at_every_size(name, severity):
    spreads = []
    for side in (112, 224, 448):
        picture = torch.zeros(1, side, side, dtype=torch.uint8)
        picture[:, :, side // 2 :] = 255
        profile = corrupt_image(picture, name, severity, "x")[0, side // 2].double() / 255
        spreads.append((profile * (1 - profile)).sum().item() / side)
    assert spreads == pytest.approx([spreads[1]] * 3, rel=0.15)


def test_fog_fills_its_range_and_joins_at_the_borders():
    field = filters.plasma(64, 2.0, torch.Generator().manual_seed(0))
    assert field.min() == 0 and field.max() == 1
    within = (field[1:] - field[:-1]).abs().mean()
    assert (field[0] - field[-1]).abs().mean() < 2 * within
