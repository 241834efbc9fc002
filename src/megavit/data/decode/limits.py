"""Check the size of untrusted images before their pixels are read."""

from megavit.errors import ImageError

MAX_BYTES = 2**28
MAX_TEXT_BYTES = 2**22  # largest plain (ASCII) PNM file, which takes about a second per few megabytes to decode
MAX_PIXELS = 2**28 // 3  # 89 million, where Pillow begins to warn; 256 MiB in RGB
MAX_SIDE = 2**15
MAX_ASPECT = 100


def check_file_size(size: int) -> None:
    """Raise an ImageError if a file is empty or too large."""
    if not size:
        raise ImageError("the file is empty")
    if size > MAX_BYTES:
        raise ImageError(f"the file exceeds the limit of {MAX_BYTES // 2**20} MiB")


class TooManyPixelsError(ImageError):
    """An image with more pixels than the caller allows."""


def check_image_size(width: int, height: int, max_pixels: int = MAX_PIXELS) -> None:
    """Raise an ImageError for an invalid size, or `TooManyPixelsError` for more than `max_pixels` pixels."""
    size = f"{width} × {height} pixels"
    if not width or not height:
        raise ImageError("the image has no pixels")
    if width > MAX_SIDE or height > MAX_SIDE:
        raise ImageError(f"{size} exceed the limit of {MAX_SIDE} per side")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(f"{size}: one side is more than {MAX_ASPECT} times the other")
    _check_pixels(width, height, max_pixels, size)


def check_tile(width: int, height: int, max_pixels: int = MAX_PIXELS) -> None:
    """Raise `TooManyPixelsError` for a tile above the limit, which is unpacked even if the image is small."""
    _check_pixels(width, height, max_pixels, f"tiles of {width} × {height} pixels")


def _check_pixels(width: int, height: int, max_pixels: int, what: str) -> None:
    if width * height > max_pixels:
        limit = f"{max_pixels // 10**6} million" if max_pixels >= 10**6 else f"{max_pixels:,}"
        raise TooManyPixelsError(f"{what} exceed the limit of {limit}")
