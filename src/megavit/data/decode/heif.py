"""Read HEIF images, such as the HEIC files of phones, by the optional package pi-heif."""

import io

from PIL import Image

from megavit.data.decode.extras import import_extra
from megavit.data.decode.limits import MAX_PIXELS, check_image_size

_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))
"""Brands of files that libheif reads (ISO/IEC 23008-12, annex B)."""
_AVIF_BRANDS = frozenset((b"avif", b"avis"))


def is_heif(data: bytes) -> bool:
    """Return whether a file is HEIF but not AVIF, by the brands of its first box."""
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4]), 256)
    brands = {data[8:12], *(data[start : start + 4] for start in range(16, end, 4))}
    return bool(brands & _BRANDS) and not brands & _AVIF_BRANDS


def open_heif(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return the primary image of a HEIF file, not loaded yet, which is upright and has 8 bits once it is.

    Raises:
        ImageError: if it exceeds the limits, or pi-heif is not installed.
    """
    pi_heif = import_extra("pi_heif", "heic", "HEIC")
    # Not registered with Pillow, whose formats would then change for the whole process.
    image = pi_heif.HeifImageFile(io.BytesIO(data))
    width, height = image.size
    check_image_size(width, height, max_pixels)
    return image
