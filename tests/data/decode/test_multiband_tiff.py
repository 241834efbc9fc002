"""TIFF of many bands, where tifffile is installed; and what is said where it is not."""

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from megavit.data.decode.image_file import inspect_image
from megavit.data.decode.multiband_tiff import is_multiband
from megavit.data.decode.tensor import decode
from megavit.errors import ImageError
from tests.helpers.difficult_images import encode_image, make_image

CUBE = np.random.default_rng(0).integers(0, 256, (20, 30, 6), dtype=np.uint8)


def tiff(array: np.ndarray, **options) -> bytes:
    target = io.BytesIO()
    pytest.importorskip("tifffile").imwrite(target, array, photometric="minisblack", **options)
    return target.getvalue()


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("bands", [2, 5, 6])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"bigtiff": True}, {"byteorder": ">"}], ids=str)
def test_bands_are_read_wherever_they_lie(bands, compression, options):
    cube = CUBE[..., :bands]
    together = tiff(cube, planarconfig="contig", compression=compression, **options)
    apart = tiff(np.moveaxis(cube, -1, 0), planarconfig="separate", compression=compression, **options)
    for data in (together, apart):
        assert inspect_image(data) == (bands, 20, 30)
        assert torch.equal(decode(data), torch.from_numpy(cube).permute(2, 0, 1))


def test_bands_of_16_bits_are_scaled():
    data = tiff(CUBE.astype(np.uint16) * 257, planarconfig="contig")
    assert torch.equal(decode(data), torch.from_numpy(CUBE).permute(2, 0, 1))


def test_one_cut_short_is_damaged():
    with pytest.raises(ImageError, match="damaged or truncated"):
        decode(tiff(CUBE, planarconfig="contig")[:-200])


def test_a_few_bytes_that_unpack_to_a_memory_full_are_refused():
    data = tiff(np.zeros((4000, 4000, 5), np.uint8), planarconfig="contig", compression="zlib", rowsperstrip=4000)
    small = data.replace((4000).to_bytes(2, "little"), (40).to_bytes(2, "little"))
    with pytest.raises(ImageError, match="decompresses to more than the entire"):
        decode(small)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
def test_pictures_are_left_to_pillow(mode):
    assert not is_multiband(encode_image(Image.fromarray(make_image()).convert(mode), "TIFF"))


def test_where_the_package_is_missing_it_is_named(monkeypatch):
    data = tiff(CUBE, planarconfig="contig")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ImageError, match="requires the package tifffile"):
        decode(data)
