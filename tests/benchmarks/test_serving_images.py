"""Hostile and broken images are what they claim to be, and the same each time."""

import io
import warnings

import pytest
from PIL import Image

from benchmarks.serving.hostile import hostile_images, jpeg_of_size, many_scans, npy, png
from benchmarks.serving.mutations import mutate, real_images
from megavit.data.decode.tensor import decode

pytestmark = pytest.mark.benchmarks


def test_real_images_are_read_and_broken_ones_mostly_not() -> None:
    real = real_images()
    kinds = {Image.open(io.BytesIO(data)).format for data in real if not data.startswith(b"\x93")}
    assert {"JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "PPM", "TIFF"} <= kinds
    for data in real:
        assert min(decode(data).shape[1:]) > 90
    broken = [mutate(real, seed) for seed in range(300)]
    assert broken == [mutate(real, seed) for seed in range(300)]
    assert sum(data in real for data in broken) < 15
    assert len(set(broken)) > 280


def test_a_size_that_is_told_is_what_a_reader_finds() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for data in (png(9_000, 8_000, b""), jpeg_of_size(9_000, 8_000)):
            assert Image.open(io.BytesIO(data)).size == (9_000, 8_000)
    assert decode(npy("|u1", "(2, 3)", bytes(6))).shape == (1, 2, 3)
    assert many_scans(20, 64).count(b"\xff\xda") > 20


def test_there_are_at_least_thirty_and_all_differ() -> None:
    images = hostile_images()
    assert len(images) >= 30
    assert len(set(images.values())) == len(images)
