"""Pictures from anyone as uint8 tensors, without trusting a byte of them.

Pillow decodes, behind limits of our own that are checked once its header is read and before any pixel is.
"""

import io
import logging
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError

from megavit.data.modes import from_unit, on_white, rescale, to_array
from megavit.errors import ImageError

FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF")
"""What is read, by Pillow's names; the content of a file decides, not its suffix."""

MAX_BYTES = 2**28
MAX_TEXT_BYTES = 2**22
"""Of PPM written out in digits, which takes a second to read for every few megabytes."""
MAX_PIXELS = 2**28 // 3
"""89 million, where Pillow itself begins to warn; in RGB, 256 MiB."""
MAX_SIDE = 2**15
MAX_ASPECT = 100

NOT_AN_IMAGE = "not an image"
DAMAGED = "damaged or cut short"

# Python prints what is logged where nobody has said what to do with it; damaged files are no news.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_SIGNATURE = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n|GIF8|RIFF....WEBP|II\*\0|MM\0\*", re.DOTALL)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation (CIPA DC-008, section 4.6.5)."""


def decode(source: Path | bytes) -> torch.Tensor:
    """The picture in a file, or in the bytes of one: uint8 (C, H, W), values 0 to 255.

    C is 1 where the picture is stored as grey, else 3. It is turned upright by its EXIF orientation, and
    transparency is put on white; of several frames or pages the first is taken. 16-bit grey is rescaled.
    Only what is whole is read: a picture that is cut short or fails its checksums is refused.

    Raises:
        ImageError: for everything that cannot be read or is beyond the limits, with a short reason.
    """
    data = source if isinstance(source, bytes) else read_file(source)
    _check_bytes(len(data))
    if data.startswith((b"P1", b"P2", b"P3")) and len(data) > MAX_TEXT_BYTES:
        raise ImageError(f"a picture in digits above the limit of {MAX_TEXT_BYTES // 2**20} MiB")
    with _refusals(data[:16]):
        with _open(data) as image:
            _check_size(*image.size)
            if image.format != "PNG":
                return _pixels(image)
            image.verify()  # decoding skips the checksums, so that a flipped bit can pass
        with _open(data) as image:
            return _pixels(image)


def read_file(path: Path) -> bytes:
    """The bytes of a regular file; of nothing else, as a pipe or a device would keep us waiting.

    Raises:
        ImageError: where there is none, or it is empty, too large, or not ours to read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file")
        _check_bytes(status.st_size)
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError("no such file") from error
    except PermissionError as error:
        raise ImageError("no permission to read it") from error
    except OSError as error:
        raise ImageError((error.strerror or "cannot be read").lower()) from error
    except ValueError as error:
        raise ImageError("not a possible file name") from error


def from_pillow(image: Image.Image) -> torch.Tensor:
    """A Pillow picture as `decode` would give it: uint8 (C, H, W), upright, transparency on white.

    Raises:
        ImageError: where it has no pixels, cannot be loaded, or has a mode without a known scale.
    """
    with _refusals():
        return _pixels(image)


def from_array(array: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Pixels in memory as `decode` would give them: uint8 (C, H, W) with C = 1 or 3.

    NumPy arrays are (H, W) or (H, W, C), channels last; tensors are (H, W) or (C, H, W), channels first.
    C is 1, 3, or 4, of which the fourth is opacity, and is put on white. Values are uint8 (0 to 255), uint16
    (0 to 65,535, rescaled) or floating point (0 to 1, scaled and rounded).

    Raises:
        ImageError: for any other shape, kind or range, saying what was expected and what came.
    """
    pixels = _channels_last(array)
    if pixels.dtype == np.uint16:
        pixels = rescale(pixels, 65_535)
    elif np.issubdtype(pixels.dtype, np.floating):
        pixels = from_unit(pixels)
    elif pixels.dtype != np.uint8:
        raise ImageError(f"pixels must be uint8, uint16, or floating point from 0 to 1; got {array.dtype}")
    if pixels.shape[-1] == 4:
        pixels = np.array(on_white(Image.fromarray(np.ascontiguousarray(pixels)), "RGB"))
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)


def _channels_last(array: np.ndarray | torch.Tensor) -> np.ndarray:
    """(H, W, C) with C in 1, 3, 4; raises an ImageError otherwise."""
    if isinstance(array, torch.Tensor):
        expected = "a tensor must have the shape (height, width) or (channels, height, width)"
        pixels = array.detach().cpu()
        pixels = (pixels.float() if pixels.is_floating_point() else pixels).numpy()
        pixels = np.moveaxis(pixels, 0, -1) if pixels.ndim == 3 else pixels
    else:
        expected = "a NumPy array must have the shape (height, width) or (height, width, channels)"
        pixels = np.asarray(array)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3, 4) or not pixels.size:
        raise ImageError(f"{expected}, with pixels and 1, 3 or 4 channels; got {tuple(array.shape)}")
    return pixels


def _pixels(image: Image.Image) -> torch.Tensor:
    image.load()
    if not image.width or not image.height:
        raise ImageError("no pixels")
    pixels = torch.from_numpy(to_array(image))
    # Turned last, as what Pillow turns forgets which format it came from.
    turn = _orientation(image)
    if turn is not None:
        pixels = torch.from_numpy(np.array(Image.fromarray(pixels.numpy()).transpose(turn)))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def _orientation(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - damaged EXIF raises nearly anything, and says nothing of the pixels
        return None


def _check_bytes(size: int) -> None:
    if not size:
        raise ImageError("an empty file")
    if size > MAX_BYTES:
        raise ImageError(f"a file above the limit of {MAX_BYTES // 2**20} MiB")


def _check_size(width: int, height: int) -> None:
    came = f"{width} × {height} pixels"
    if not width or not height:
        raise ImageError("no pixels")
    if width > MAX_SIDE or height > MAX_SIDE:
        raise ImageError(f"{came}, above the limit of {MAX_SIDE} a side")
    if width * height > MAX_PIXELS:
        raise ImageError(f"{came}, above the limit of {MAX_PIXELS // 10**6} million")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(f"{came}, one side more than {MAX_ASPECT} times the other")


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=_formats())


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@contextmanager
def _refusals(head: bytes = b"") -> Iterator[None]:
    """Whatever goes wrong inside is an ImageError; `head` tells damaged images from other files."""
    try:
        with _unheard():
            yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(DAMAGED if _SIGNATURE.match(head) else NOT_AN_IMAGE) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"more pixels than the limit of {MAX_PIXELS // 10**6} million") from error
    except MemoryError as error:
        raise ImageError("more pixels than there is memory for") from error
    except Exception as error:
        raise ImageError(DAMAGED) from error


_lock = threading.Lock()
_inside = 0
_filters = warnings.catch_warnings()


@contextmanager
def _unheard() -> Iterator[None]:
    """Pillow's warnings are ignored inside: its limits are replaced by ours, the rest is about metadata.

    The filters belong to the whole process: the first thread to come sets them, the last to go resets them.
    """
    global _inside, _filters
    with _lock:
        if not _inside:
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _filters.__exit__(None, None, None)
