"""Make small copies of images for the page and for features, and keep them in a hidden folder beside the images."""

import hashlib
import io
import threading
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import torch
from PIL import Image

from megavit.data.decode.tensor import decode
from megavit.data.image_dataset import displayable_channels, limit_size
from megavit.errors import ImageError
from megavit.labeling.images import ImageList
from megavit.runtime.storage import writing
from megavit.runtime.unfinished import temporary_path

CACHE_FOLDER = ".megavit"
"""Hidden folder in that of the images, with what can be made again."""
THUMBNAIL_SIDE, PREVIEW_SIDE = 256, 1280
"""Longer side in pixels of a thumbnail, and of the image that is shown alone."""
_QUALITY = 85


class Thumbnails:
    """The thumbnails of a folder's images, each made once; safe to use from several threads and processes."""

    def __init__(self, images: ImageList) -> None:
        self.images = images
        self.folder = images.folder / CACHE_FOLDER / "thumbnails"
        self._lock = threading.Lock()
        self._pending: dict[int, Future[bytes]] = {}

    def read(self, index: int) -> bytes:
        """Return an image's thumbnail as JPEG; raise an ImageError if the image cannot be read."""
        path = self.folder / f"{self.key(index)}.jpg"
        with suppress(OSError):
            return path.read_bytes()
        own: Future[bytes] = Future()
        with self._lock:
            pending = self._pending.setdefault(index, own)
        if pending is not own:
            return pending.result()
        try:
            data = encode(self.images.path(index), THUMBNAIL_SIDE)
            _keep(path, data)
        except BaseException as error:
            own.set_exception(error)
            raise
        else:
            own.set_result(data)
            return data
        finally:
            with self._lock:
                del self._pending[index]

    def pixels(self, index: int) -> torch.Tensor:
        """Return an image's thumbnail as uint8 (3, H, W); errors are those of `read`."""
        pixels = decode(self.read(index))
        return pixels.expand(3, -1, -1)

    def preview(self, index: int) -> bytes:
        """Return a larger copy of an image as JPEG, which is not kept; errors are those of `read`."""
        return encode(self.images.path(index), PREVIEW_SIDE)

    def key(self, index: int) -> str:
        """Return a name for an image's content that changes with its file; raise an ImageError if there is none."""
        try:
            status = self.images.path(index).stat()
        except OSError as error:
            raise ImageError("no such file") from error
        identity = f"{self.images.names[index]}\n{status.st_size}\n{status.st_mtime_ns}"
        return hashlib.sha256(identity.encode()).hexdigest()[:24]


def encode(path: Path, side: int) -> bytes:
    """Return an image of any format as JPEG, its longer side at most `side` pixels."""

    def fit(height: int, width: int) -> tuple[int, int]:
        scale = min(1.0, side / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    pixels = limit_size(displayable_channels(decode(path, fit)), side)
    array = pixels[0] if pixels.shape[0] == 1 else pixels.permute(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(array.contiguous().numpy()).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _keep(path: Path, data: bytes) -> None:
    """Write a file that may be lost but is never seen in part, without waiting for the disk."""
    with writing("the thumbnails", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = temporary_path(path)
        try:
            part.write_bytes(data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
