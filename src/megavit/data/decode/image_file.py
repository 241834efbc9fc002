"""Decode untrusted image files to uint8 arrays, within limits that are checked before any pixel is read."""

import io
import logging
import math
import os
import re
import stat
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile

from megavit.data.decode.color_modes import to_array
from megavit.data.decode.dicom import is_dicom, read_dicom
from megavit.data.decode.heif import is_heif, open_heif
from megavit.data.decode.jxl import JXL_SIGNATURES, read_jxl
from megavit.data.decode.limits import MAX_PIXELS, MAX_TEXT_BYTES, check_file_size, check_image_size, check_tile
from megavit.data.decode.multiband_tiff import TIFF_SIGNATURES, is_multiband, read_multiband_tiff
from megavit.data.decode.npy import NPY_SIGNATURE, read_npy
from megavit.data.decode.structure_guard import check_exif, check_structure
from megavit.errors import ImageError

FORMATS = ("Jpeg", "Png", "Gif", "WebP", "Bmp", "Tiff", "Ppm", "Avif")
"""The accepted formats, as Pillow calls their modules; a file's content determines its format, not its suffix."""

DRAFT_MARGIN = 2
"""Smallest ratio of a JPEG's sides, decoded at 1/2, 1/4 or 1/8, to the needed ones. Resizing then determines the
result: on photographs and drawings its PSNR to full decoding is at least 33 dB."""

SETTLED_SECONDS = 2.5
"""Age from which a file's times are reliable; file systems store them in steps of up to two seconds."""

NOT_AN_IMAGE = "not an image"
DAMAGED = "damaged or truncated"
NO_FILE = "no such file"

# Without a handler, Python would print Pillow's log messages on damaged files.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_SIGNATURE = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n|GIF8|RIFF....WEBP|II\*\0|MM\0\*", re.DOTALL)

_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transpositions that turn an image upright, by EXIF orientation (CIPA DC-008, section 4.6.5)."""
_SWAPS_SIDES = tuple(_TRANSPOSES[orientation] for orientation in (5, 6, 7, 8))


TargetSize = tuple[int, int] | Callable[[int, int], tuple[int, int]]
"""The (height, width) that an upright image will be reduced to, or a function of its own height and width."""


def read_image_file(
    source: Path | bytes, target_size: TargetSize | None = None, max_pixels: int = MAX_PIXELS
) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode an image file or its bytes to uint8 (H, W, C), and return it with its (height, width) at full scale.

    Arguments and errors are those of `megavit.data.decode.tensor.decode_with_size`.
    """
    return _decode(source if isinstance(source, bytes) else read_file(source), target_size, max_pixels)


def inspect_image(data: bytes) -> tuple[int, int, int]:
    """Return the (channels, height, width) of an image after reading all bytes; errors are those of `read_image_file`.

    JPEG is much faster than in `read_image_file`, since it is decoded at the smallest scale.
    """
    pixels, (height, width) = _decode(data, (1, 1))
    return pixels.shape[2], height, width


def _decode(
    data: bytes, target_size: TargetSize | None, max_pixels: int = MAX_PIXELS
) -> tuple[np.ndarray, tuple[int, int]]:
    check_file_size(len(data))
    if data.startswith((b"P1", b"P2", b"P3")) and len(data) > MAX_TEXT_BYTES:
        raise ImageError(f"the plain (ASCII) PNM file exceeds the limit of {MAX_TEXT_BYTES // 2**20} MiB")
    with _converted_errors(data[:16]):
        check_structure(data)
        if data.startswith(NPY_SIGNATURE):
            return _with_size(read_npy(data, max_pixels))
        if data.startswith(TIFF_SIGNATURES) and is_multiband(data):
            return _with_size(read_multiband_tiff(data, max_pixels))
        if is_heif(data):
            with open_heif(data, max_pixels) as image:
                return _with_size(_pixels(image))
        if data.startswith(JXL_SIGNATURES):
            return _with_size(read_jxl(data, max_pixels))
        if is_dicom(data):
            return _with_size(read_dicom(data, lambda frame: _decode(frame, None, max_pixels)[0], max_pixels))
        with _open(data) as image:
            check_image_size(*image.size, max_pixels)
            if isinstance(image, TiffImageFile) and TILEWIDTH in image.tag_v2:
                check_tile(image.tag_v2[TILEWIDTH], image.tag_v2[TILELENGTH], max_pixels)
            if image.format in ("JPEG", "MPO"):
                return _from_jpeg(image, target_size)
            if image.format != "PNG":
                return _with_size(_pixels(image))
            image.verify()  # decoding skips the checksums
        with _open(data) as image:
            return _with_size(_pixels(image))


def _from_jpeg(image: Image.Image, target_size: TargetSize | None) -> tuple[np.ndarray, tuple[int, int]]:
    is_sideways = _orientation(image) in _SWAPS_SIDES
    size = image.size if is_sideways else image.size[::-1]
    if target_size is not None:
        sides = target_size(*size) if callable(target_size) else target_size
        min_sides = [math.ceil(side * DRAFT_MARGIN) for side in sides]
        image.draft(None, (min_sides[0], min_sides[1]) if is_sideways else (min_sides[1], min_sides[0]))
    return _pixels(image), size


def _with_size(pixels: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    return pixels, (pixels.shape[0], pixels.shape[1])


def read_file(path: Path) -> bytes:
    """Return a regular file's bytes, or raise an ImageError if it is missing, empty, too large or unreadable."""
    return read_file_with_stamp(path)[0]


def read_file_with_stamp(path: Path) -> tuple[bytes, int | None]:
    """Return the bytes of a file as `read_file`, and a stamp that is equal for two readings only if the bytes are.

    The stamp is a hash of the file's size, inode and times of change; None if the file changed so recently that another
    change might not alter its times.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("it is a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file")
        check_file_size(status.st_size)
        with path.open("rb") as file:
            before = _stamp(os.fstat(file.fileno()))
            # Python allocates the requested number of bytes, so the file's size is requested and not the limit.
            data = file.read(status.st_size)
            after = _stamp(os.fstat(file.fileno()))
        return data, after if after == before else None
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(NO_FILE) from error
    except PermissionError as error:
        raise ImageError("no permission to read it") from error
    except OSError as error:
        raise ImageError((error.strerror or "cannot be read").lower()) from error
    except ValueError as error:
        raise ImageError("not a valid file name") from error


def _stamp(status: os.stat_result) -> int | None:
    if time.time() - max(status.st_mtime, status.st_ctime) < SETTLED_SECONDS:
        return None
    return hash((status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns))


def from_pillow(image: Image.Image) -> np.ndarray:
    """Convert a Pillow image to upright uint8 (H, W, C) on white, or raise an ImageError if it cannot be read."""
    with _converted_errors():
        return _pixels(image)


def _pixels(image: Image.Image) -> np.ndarray:
    image.load()
    if not image.width or not image.height:
        raise ImageError("the image has no pixels")
    pixels = to_array(image)
    # Done last, since transposing loses the format.
    transpose = _orientation(image)
    if transpose is not None:
        pixels = np.array(Image.fromarray(pixels).transpose(transpose))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _orientation(image: Image.Image) -> Image.Transpose | None:
    try:
        if isinstance(profile := image.info.get("Raw profile type exif"), str):  # as Pillow reads it in PNG
            check_exif(bytes.fromhex("".join(profile.split("\n")[3:])))
        return _TRANSPOSES.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - damaged EXIF raises nearly anything, and does not affect the pixels
        return None


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=_formats())


@cache
def _formats() -> tuple[str, ...]:
    # `Image.init` imports the modules of all other formats too, which takes several times as long.
    for name in FORMATS:
        with suppress(ModuleNotFoundError):  # AVIF, before Pillow 11.3
            import_module(f"PIL.{name}ImagePlugin")
    return tuple(name.upper() for name in FORMATS if name.upper() in Image.OPEN)


@contextmanager
def _converted_errors(head: bytes = b"") -> Iterator[None]:
    """Convert any error to an ImageError; `head` distinguishes damaged images from other files."""
    try:
        with _ignored_warnings():
            yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(DAMAGED if _SIGNATURE.match(head) else NOT_AN_IMAGE) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"the image exceeds the limit of {MAX_PIXELS // 10**6} million pixels") from error
    except MemoryError as error:
        raise ImageError("there is not enough memory for its pixels") from error
    except Exception as error:
        raise ImageError(DAMAGED) from error


_lock = threading.Lock()
_active_threads = 0
_filters = warnings.catch_warnings()


@contextmanager
def _ignored_warnings() -> Iterator[None]:
    """Ignore warnings of Pillow and pydicom, by filters that the first thread sets and the last one resets."""
    global _active_threads, _filters
    with _lock:
        if not _active_threads:
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.filterwarnings("ignore", module=r"(PIL|pydicom)\b")
        _active_threads += 1
    try:
        yield
    finally:
        with _lock:
            _active_threads -= 1
            if not _active_threads:
                _filters.__exit__(None, None, None)


def _after_fork() -> None:
    """Reset the state in a forked process, which has none of the threads inside or holding the lock."""
    global _lock, _active_threads
    _lock = threading.Lock()
    if _active_threads:
        _active_threads = 0
        _filters.__exit__(None, None, None)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
