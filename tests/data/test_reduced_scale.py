"""A JPEG decoded at the scale that is needed looks as if decoded in full; everything else is not touched."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from megavit.config.preprocessing import Preprocessing
from megavit.data.decode.image_file import DRAFT_MARGIN, inspect_image
from megavit.data.decode.tensor import decode, decode_with_size
from megavit.data.image_dataset import preprocess
from megavit.errors import ImageError
from tests.helpers.difficult_images import TURNS, encode_image, make_exif, make_image
from tests.helpers.sizes import sized

LEAST_PSNR = 33
"""Decibels; two pictures of 8 bits that differ by 40 dB can hardly be told apart, and resizers differ by more."""


@cache
def photograph(number: int, kind: str = "JPEG", mode: str = "RGB", orientation: int = 1) -> bytes:
    """One of scikit-learn's two photographs, 427 × 640."""
    image = Image.fromarray(load_sample_images().images[number]).convert(mode)
    return encode_image(image, kind, exif=make_exif(orientation), **({"quality": 90} if kind == "JPEG" else {}))


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    error = (a.double() - b.double()).square().mean().item()
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


@given(st.sampled_from([0, 1]), st.integers(8, 300), st.integers(8, 300), st.sampled_from(["RGB", "L", "CMYK"]))
def test_the_picture_made_of_it_is_that_of_decoding_in_full(number, height, width, mode):
    data = photograph(number, mode=mode)
    reduced = decode(data, (height, width))
    channels = reduced.shape[0]
    assert channels == (1 if mode == "L" else 3)
    if reduced.shape[1:] != (427, 640):
        assert reduced.shape[1] >= DRAFT_MARGIN * height and reduced.shape[2] >= DRAFT_MARGIN * width
    same = (
        preprocess(reduced, *sized(height, width, channels)),
        preprocess(decode(data), *sized(height, width, channels)),
    )
    assert psnr(*same) >= LEAST_PSNR


@pytest.mark.parametrize("orientation", TURNS)
def test_what_is_needed_is_meant_upright(orientation):
    data = photograph(0, orientation=orientation)
    whole = decode(data)
    # Exactly half the height is needed twice over, and hardly any width.
    need = (whole.shape[1] // 4, 1)
    reduced = decode(data, need)
    assert whole.shape[1] // 2 <= reduced.shape[1] < whole.shape[1]
    assert (
        psnr(
            preprocess(reduced, *sized(64, 64, 3)),
            preprocess(whole, *sized(64, 64, 3)),
        )
        >= LEAST_PSNR
    )


@pytest.mark.parametrize("side", [1, 20, 54, 108, 214, 1000])
def test_the_smallest_scale_that_leaves_enough_is_taken(side):
    height = decode(photograph(0), (side, side)).shape[1]
    halves = [427, 214, 107, 54]
    assert height == min(one for one in halves if one >= DRAFT_MARGIN * side or one == 427)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_no_other_kind_is_changed(kind):
    data = encode_image(make_image(64, 48), kind)
    assert torch.equal(decode(data, (4, 4)), decode(data))


def test_several_pictures_in_one_file_are_reduced_too():
    frames = [Image.fromarray(image) for image in load_sample_images().images]
    data = encode_image(frames[0], "MPO", save_all=True, append_images=frames[1:], quality=90)
    reduced = decode(data, (32, 32))
    assert reduced.shape == (3, 107, 160)
    assert (
        psnr(
            preprocess(reduced, *sized(32, 32, 3)),
            preprocess(decode(data), *sized(32, 32, 3)),
        )
        >= LEAST_PSNR
    )


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("kind", "mode", "channels"), [("JPEG", "RGB", 3), ("JPEG", "L", 1), ("PNG", "RGB", 3)])
def test_examining_tells_the_whole_size(kind, mode, channels, orientation):
    data = photograph(0, kind, mode, orientation)
    assert inspect_image(data) == tuple(decode(data).shape)
    assert inspect_image(data)[0] == channels


@given(st.data(), st.booleans())
def test_examining_refuses_exactly_what_decoding_refuses(draw, progressive):
    whole = encode_image(make_image(64, 48), "JPEG", progressive=progressive)
    damaged = bytearray(whole[: draw.draw(st.integers(1, len(whole)))])
    for place in draw.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=3)):
        damaged[place] ^= draw.draw(st.integers(1, 255))
    assert reason(inspect_image, bytes(damaged)) == reason(decode, bytes(damaged))


def reason(read, data: bytes) -> str:
    try:
        read(data)
    except ImageError as error:
        return error.reason
    return "read"


@pytest.mark.parametrize("orientation", [1, 6])
def test_what_is_needed_can_follow_from_the_picture(orientation):
    """Sideways too, a picture that keeps its shape is decoded at the scale that this shape needs."""
    data = photograph(0, orientation=orientation)
    whole = (427, 640) if orientation == 1 else (640, 427)
    kept = Preprocessing(height=64, width=64, channels=3, keep_aspect=True, patch_size=16)
    asked: list[tuple[int, int]] = []

    def need(height: int, width: int) -> tuple[int, int]:
        asked.append((height, width))
        return kept.size_for(height, width)

    reduced, size = decode_with_size(data, need)
    assert asked == [whole] and size == whole
    assert torch.equal(reduced, decode(data, kept.size_for(*whole)))
    assert tuple(reduced.shape[1:]) == tuple(-(-side // 4) for side in whole)
    in_full = preprocess(decode(data), kept.size_for(*size), kept)
    assert psnr(preprocess(reduced, kept.size_for(*size), kept), in_full) >= LEAST_PSNR
