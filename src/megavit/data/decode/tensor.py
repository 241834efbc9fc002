"""Decode untrusted images to uint8 tensors."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from megavit.data.decode import image_file, npy
from megavit.data.decode.image_file import TargetSize
from megavit.data.decode.limits import MAX_PIXELS


def decode(source: Path | bytes, target_size: TargetSize | None = None) -> torch.Tensor:
    """Decode an image file or its bytes to uint8 (C, H, W).

    C is 1 for gray, 3 for color, or the number of channels in a .npy file or a TIFF with many bands. Except in .npy,
    the EXIF orientation is applied and transparency composited on white. The first frame or page is used, and 16-bit
    gray is rescaled. Truncated images and those with wrong checksums are refused.

    Args:
        source: path, or bytes of a file.
        target_size: size to which the image will be reduced. A JPEG much larger than that is decoded at a reduced
            scale, at least `DRAFT_MARGIN` times as large; other formats ignore it.

    Raises:
        ImageError: if the image cannot be read or exceeds the limits, with a short reason.
    """
    return decode_with_size(source, target_size)[0]


def decode_with_size(
    source: Path | bytes, target_size: TargetSize | None = None, max_pixels: int = MAX_PIXELS
) -> tuple[torch.Tensor, tuple[int, int]]:
    """Decode an image as `decode`, and return it with its (height, width) at full scale.

    Args:
        max_pixels: number of pixels above which `TooManyPixelsError` is raised, once the header is read.
    """
    pixels, size = image_file.read_image_file(source, target_size, max_pixels)
    return _tensor(pixels), size


def from_pillow(image: Image.Image) -> torch.Tensor:
    """Convert a Pillow image to uint8 (C, H, W), upright, with transparency composited on white.

    Raises:
        ImageError: if it has no pixels, cannot be loaded, or has a mode of unknown scale.
    """
    return _tensor(image_file.from_pillow(image))


def from_array(array: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Convert a tensor (H, W) or (C, H, W), or a NumPy array (H, W) or (H, W, C), to uint8 (C, H, W).

    C is from 1 to `MAX_CHANNELS`; values are those of `megavit.data.decode.npy.to_uint8`.

    Raises:
        ImageError: for any other shape, dtype or range, naming what was expected and what was given.
    """
    if isinstance(array, torch.Tensor):
        values = array.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
        return _tensor(np.array(npy.to_uint8(values, channels_first=True), order="C"))
    return _tensor(np.array(npy.to_uint8(array), order="C"))


def _tensor(pixels: np.ndarray) -> torch.Tensor:
    is_owned = pixels.flags.writeable and pixels.flags.c_contiguous
    return torch.from_numpy(pixels if is_owned else np.array(pixels, order="C")).permute(2, 0, 1)
