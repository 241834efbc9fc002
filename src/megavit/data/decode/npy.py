"""Convert arrays, in memory or in .npy files, to uint8 images with any number of channels."""

import io

import numpy as np
from numpy.lib import format as npy

from megavit.config.checks import MAX_CHANNELS
from megavit.data.decode.color_modes import rescale_to_uint8, unit_to_uint8
from megavit.data.decode.limits import MAX_PIXELS, check_image_size
from megavit.errors import ImageError

NPY_SIGNATURE = b"\x93NUMPY"
_COLOR = (1, 3, 4)


def to_uint8(array: np.ndarray, channels_first: bool = False) -> np.ndarray:
    """Convert an array (H, W) or (H, W, C), or (C, H, W) if `channels_first`, to uint8 (H, W, C).

    C is from 1 to `MAX_CHANNELS`. An array whose C is not 1, 3 or 4 and whose shortest axis is at the opposite end is
    refused. Values are uint8, uint16 (rescaled from 0 to 65,535) or floats in [0, 1] (scaled and rounded).

    Raises:
        ImageError: for any other shape, dtype or range, naming what was expected and what was given.
    """
    pixels = _channels_last(array, channels_first)
    if pixels.dtype.newbyteorder("=") == np.uint16:
        return rescale_to_uint8(pixels, 65_535)
    if np.issubdtype(pixels.dtype, np.floating):
        return unit_to_uint8(pixels)
    if pixels.dtype != np.uint8:
        raise ImageError(f"pixels must be uint8, uint16, or floating point from 0 to 1; got {array.dtype}")
    return pixels


def read_npy(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a .npy file by `to_uint8`, or raise an ImageError if it is truncated or of an unknown kind."""
    stream = io.BytesIO(data)
    read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(stream)
    if version not in read_header:
        raise ImageError(f".npy version {version[0]}.{version[1]} is not supported: save a numeric array")
    shape, fortran_order, dtype = read_header[version](stream)
    if dtype.kind not in "uif":
        raise ImageError(f"pixels must be uint8, uint16, or floating point from 0 to 1; got {dtype}")
    if len(shape) in (2, 3):
        check_image_size(shape[1], shape[0], max_pixels)
    # Raises for a truncated or padded file, whose bytes do not fill the shape.
    pixels = np.frombuffer(data, dtype, offset=stream.tell())
    return to_uint8(pixels.reshape(shape, order="F" if fortran_order else "C"))


def _channels_last(array: np.ndarray, channels_first: bool) -> np.ndarray:
    shape = array.shape
    if channels_first:
        expected, channel_axis, opposite_axis = (
            "a tensor must have the shape (height, width) or (channels, height, width)",
            0,
            -1,
        )
    else:
        expected = "a NumPy array must have the shape (height, width) or (height, width, channels)"
        channel_axis, opposite_axis = -1, 0
    pixels = array[..., None] if array.ndim == 2 else np.moveaxis(array, channel_axis, -1) if array.ndim == 3 else array
    if pixels.ndim != 3 or not 1 <= pixels.shape[-1] <= MAX_CHANNELS or not pixels.size:
        raise ImageError(f"{expected}, with 1 to {MAX_CHANNELS} channels and at least one pixel; got {shape}")
    if pixels.shape[-1] not in _COLOR and shape[opposite_axis] < min(shape[1], shape[channel_axis]):
        raise ImageError(f"{expected}; got {shape}, whose channels seem to be {'last' if channels_first else 'first'}")
    return pixels
