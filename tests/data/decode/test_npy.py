"""Arrays of any number of channels, in memory and as .npy files."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.data.decode.image_file import inspect_image
from megavit.data.decode.tensor import decode, from_array
from megavit.errors import ImageError


def npy(array: np.ndarray, **options) -> bytes:
    target = io.BytesIO()
    np.save(target, array, **options)
    return target.getvalue()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@given(st.integers(64, 70), st.integers(64, 70), st.integers(1, 64), st.sampled_from("CF"))
def test_a_file_is_the_array_that_was_saved(height, width, channels, order):
    array = noise(height, width, channels)
    data = npy(np.asarray(array, order=order))
    assert inspect_image(data) == (channels, height, width)
    assert np.array_equal(decode(data).permute(1, 2, 0).numpy(), array)


def test_a_file_without_channels_is_gray():
    assert decode(npy(noise(5, 7))).shape == (1, 5, 7)


@pytest.mark.parametrize("kind", ["<u2", ">u2", "<f4", ">f8", "<f2"])
def test_other_numbers_are_scaled_in_either_byte_order(kind):
    top = 65_535 if kind[1] == "u" else 1
    values = (np.array([[[0, 0.25, 0.5, 0.75, 1]] * 5] * 5) * top).astype(kind)
    assert decode(npy(values))[:, 0, 0].tolist() == pytest.approx([0, 64, 128, 191, 255], abs=1)


@pytest.mark.parametrize(
    ("array", "end"),
    [(noise(5, 64, 64), "first"), (noise(2, 9, 5), "first"), (torch.zeros(64, 64, 5, dtype=torch.uint8), "last")],
    ids=["large", "small", "tensor"],
)
def test_channels_at_the_wrong_end_are_refused_and_not_guessed(array, end):
    with pytest.raises(ImageError, match=f"channels seem to be {end}"):
        from_array(array)


def test_many_bands_of_few_pixels_are_taken():
    assert from_array(noise(9, 9, 64)).shape == (64, 9, 9)
    assert from_array(torch.zeros(64, 9, 9, dtype=torch.uint8)).shape == (64, 9, 9)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (npy(noise(8, 8, 5))[:-1], "damaged or truncated"),
        (npy(noise(8, 8, 5)) + b"1", "damaged or truncated"),
        (npy(noise(8, 8, 5))[:40], "damaged or truncated"),
        (npy(np.array([{}], dtype=object), allow_pickle=True), "got object"),
        (npy(np.zeros((8, 8), np.int64)), "got int64"),
        (npy(np.zeros((8, 8), np.complex64)), "got complex64"),
        (npy(np.full((8, 8), 2.0)), "between 0 and 1"),
        (npy(noise(2, 300, 3)), "one side is more than 100 times the other"),
        (npy(noise(8, 8, 65)), "1 to 64 channels"),
        (npy(np.zeros((4, 4), [("a", "u1")])), "got"),
    ],
)
def test_other_files_are_refused_with_their_reason(data, said):
    with pytest.raises(ImageError, match=said):
        decode(data)


def test_a_header_that_promises_more_than_there_is_costs_no_memory():
    data = npy(noise(8, 8)).replace(b"(8, 8), }      ", b"(32000, 320), }")
    with pytest.raises(ImageError, match="damaged or truncated"):
        decode(data)
