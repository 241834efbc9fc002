"""Convert images given as Python objects to what is kept of them in memory."""

import os

import numpy as np
import torch
from PIL import Image

from megavit.data.dataset import MemoryImage
from megavit.data.decode.limits import check_image_size
from megavit.data.decode.tensor import from_array, from_pillow
from megavit.errors import DataError, ImageError
from megavit.runtime.memory import main_memory

MEMORY_SHARE = 0.6  # largest share of the main memory for images without files

_EXPECTED = (
    "an image can be a path, the bytes of a file, a PIL image, a NumPy array (height, width[, channels]), or a tensor "
    "([channels,] height, width)"
)

StoredImage = str | MemoryImage | ImageError
"""The path of an image, its pixels or the bytes of its file, or why it cannot be read."""


class ImageStore:
    """A converter of images to what is kept of them, which limits the memory they take."""

    def __init__(self) -> None:
        self._max_bytes = int(main_memory() * MEMORY_SHARE)
        self._bytes = 0

    def convert(self, image: object, where: str) -> StoredImage:
        """Return the path of an image, its file's bytes, a copy of its pixels (C, H, W), or why it cannot be read.

        Raises:
            DataError: if it is no image, or an array of another shape, type or range, or if the memory is full.
        """
        stored = _convert(image, where)
        if isinstance(stored, torch.Tensor):
            self._bytes += stored.nbytes
        elif isinstance(stored, bytes):
            self._bytes += len(stored)
        if self._bytes > self._max_bytes:
            raise DataError(
                f"the images take more than {self._max_bytes / 2**30:.1f} GiB, {MEMORY_SHARE:.0%} of the main memory: "
                "save them as files, and pass their folder or paths"
            )
        return stored


def find_path(image: object) -> str | None:
    """Return the path of an image that is given by one, or None."""
    match image:
        case str() | os.PathLike():
            return os.fsdecode(image)
        case dict() if isinstance(image.get("path"), str) and not isinstance(image.get("bytes"), bytes):
            return image["path"]
    return None


def _convert(image: object, where: str) -> StoredImage:
    path = find_path(image)
    if path is not None:
        return path
    match image:
        case bytes():
            return image
        case bytearray() | memoryview():
            return bytes(image)
        case dict() if isinstance(image.get("bytes"), bytes):  # as in Hugging Face data sets
            return image["bytes"]
        case Image.Image():
            return _checked(image, image.size)
        case torch.Tensor() | np.ndarray():
            array = image
        case _ if hasattr(image, "__array__"):
            array = np.asarray(image)
        case _:
            raise DataError(f"{where} is of type {type(image).__name__}: {_EXPECTED}")
    try:
        pixels = from_array(array)
    except ImageError as error:
        normalized = " (without normalization by mean and standard deviation)" if "floating" in error.reason else ""
        raise DataError(f"{where}: {error.reason}{normalized}") from error
    return _checked(pixels, (pixels.shape[2], pixels.shape[1]))


def _checked(image: Image.Image | torch.Tensor, size: tuple[int, int]) -> torch.Tensor | ImageError:
    try:
        width, height = size
        check_image_size(width, height)
        return from_pillow(image) if isinstance(image, Image.Image) else image
    except ImageError as error:
        return error
