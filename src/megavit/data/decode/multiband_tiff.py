"""Read TIFF with many bands, which Pillow cannot read, by the optional package tifffile."""

import importlib
import io
import logging
import zlib
from typing import Any

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from megavit.config.checks import MAX_CHANNELS
from megavit.data.decode.limits import MAX_PIXELS, check_image_size
from megavit.data.decode.npy import to_uint8
from megavit.errors import ImageError

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SAMPLES_PER_PIXEL, _EXTRA_SAMPLES = 277, 338  # tags in TIFF 6.0, sections 8 and 18
_UNCOMPRESSED, _DEFLATE = 1, (8, 32_946)  # compression codes in TIFF 6.0 and its supplement; deflate has two
_MAX_VALUES = 3 * MAX_PIXELS

logging.getLogger("tifffile").addHandler(logging.NullHandler())


def is_multiband(data: bytes) -> bool:
    """Return whether a TIFF has more than four bands, or two that are not gray and alpha."""
    stream = io.BytesIO(data)
    head = stream.read(8)
    directory = ImageFileDirectory_v2(head if 43 not in head[2:4] else head + stream.read(8))
    stream.seek(directory.next)
    directory.load(stream)
    samples = directory.get(_SAMPLES_PER_PIXEL, 1)
    return samples > 4 or (samples == 2 and directory.get(_EXTRA_SAMPLES, (0,))[0] == 0)


def read_multiband_tiff(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read the first page of a TIFF with up to `MAX_CHANNELS` bands, uncompressed or deflated, as uint8 (H, W, C).

    Raises:
        ImageError: if it exceeds the limits, has another compression, or tifffile is not installed.
    """
    try:
        tifffile = importlib.import_module("tifffile")
    except ImportError:
        raise ImageError("reading a multi-band TIFF requires the package tifffile: install it") from None
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        height, width, bands = page.imagelength, page.imagewidth, page.samplesperpixel
        check_image_size(width, height, max_pixels)
        if bands > MAX_CHANNELS:
            raise ImageError(f"{bands} bands exceed the limit of {MAX_CHANNELS}")
        if height * width * bands > _MAX_VALUES:
            raise ImageError(f"{height} × {width} pixels of {bands} bands exceed the limit of {_MAX_VALUES:,} values")
        if page.compression != _UNCOMPRESSED:
            _check_decompressed_size(data, page)
        pixels = np.asarray(page.asarray(maxworkers=1))
        if page.axes == "SYX":
            pixels = np.moveaxis(pixels, 0, -1)
        elif page.axes not in ("YXS", "YX"):
            raise ImageError(f"the TIFF has the axes {page.axes}, but only height, width and bands are supported")
    return to_uint8(pixels)


def _check_decompressed_size(data: bytes, page: Any) -> None:
    """Refuse a strip or tile that expands to more than the image, since a few bytes could fill the memory."""
    if page.compression not in _DEFLATE:
        raise ImageError("a multi-band TIFF must be uncompressed or deflated: save it as one of these")
    # A tile at the edge may extend beyond the image.
    max_bytes = 2 * page.nbytes + 2**24
    for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
        if len(zlib.decompressobj().decompress(data[offset : offset + size], max_bytes + 1)) > max_bytes:
            raise ImageError("a strip or tile decompresses to more than the entire image")
