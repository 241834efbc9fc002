"""Decode untrusted images to tensors of uint8."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from megavit.data.decode import image_file, npy
from megavit.data.decode.image_file import TargetSize
from megavit.data.decode.limits import MAX_PIXELS


def decode(source: Path | bytes, need: TargetSize | None = None) -> torch.Tensor:
    """Decode an image file, or its bytes, to uint8 (C, H, W).

    C is 1 where the picture is stored as gray, 3 for color; a .npy file or a TIFF of more than four bands has
    as many as it stores. It is turned upright by its EXIF orientation, and transparency is put on white, except in
    .npy; of several frames or pages the first is taken. 16-bit gray is rescaled. Only what is whole is read: a
    picture that is cut short or fails its checksums is refused.

    Args:
        source: a path or a file's bytes.
        need: what the picture will be made smaller to. A JPEG much larger than that is decoded at a reduced scale,
            at least `DRAFT_MARGIN` times as large; no other kind is changed by it.

    Raises:
        ImageError: for everything that cannot be read or is beyond the limits, with a short reason.
    """
    return decode_with_size(source, need)[0]


def decode_with_size(
    source: Path | bytes, need: TargetSize | None = None, max_pixels: int = MAX_PIXELS
) -> tuple[torch.Tensor, tuple[int, int]]:
    """Decode as `decode`, and return the image's (height, width) at full scale.

    Args:
        max_pixels: above which a picture is refused with `TooManyPixelsError`, once its header is read.
    """
    pixels, size = image_file.read_image_file(source, need, max_pixels)
    return _tensor(pixels), size


def from_pillow(image: Image.Image) -> torch.Tensor:
    """Convert a Pillow image to uint8 (C, H, W), upright, with transparency on white.

    Raises:
        ImageError: where it has no pixels, cannot be loaded, or has a mode without a known scale.
    """
    return _tensor(image_file.from_pillow(image))


def from_array(array: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Convert pixels in memory to uint8 (C, H, W) with C from 1 to `MAX_CHANNELS`.

    Tensors are (H, W) or (C, H, W), channels first; NumPy arrays, and what the values mean, are as of
    `megavit.data.decode.npy.to_uint8`.

    Raises:
        ImageError: for any other shape, kind or range, saying what was expected and what came.
    """
    if isinstance(array, torch.Tensor):
        values = array.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
        return _tensor(np.array(npy.to_uint8(values, first=True), order="C"))
    return _tensor(np.array(npy.to_uint8(array), order="C"))


def _tensor(pixels: np.ndarray) -> torch.Tensor:
    """Convert (H, W, C) to (C, H, W) whose channels lie last in memory."""
    own = pixels.flags.writeable and pixels.flags.c_contiguous
    return torch.from_numpy(pixels if own else np.array(pixels, order="C")).permute(2, 0, 1)
