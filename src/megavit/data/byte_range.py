"""Some bytes in the middle of a file, on a disk or by URL, known by their digest."""

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from types import ModuleType
from typing import Any, TypeVar

from megavit.data.decode.limits import check_file_size
from megavit.errors import DataError, ImageError, MegavitError

NOT_THERE = "its shard is not there"
CUT_SHORT = "its shard is cut short"
CHANGED = "not the bytes that were written"

MAX_CONCURRENT_REQUESTS = 16
"""Requests to a store, of each process that reads from it."""

T = TypeVar("T")
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_PIECE = 2**23
# A store that is asked by thousands at once refuses some; these waits, in seconds, are between tries.
_WAITS = (0.2, 1.0, 4.0)


def content_digest(data: bytes) -> str:
    """The `Sample.digest` of a file's bytes: BLAKE2b, 8 bytes, in hex."""
    return blake2b(data, digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class ByteRange:
    """`size` bytes from `offset` on of a file, by path or URL, and their digest."""

    file: str
    offset: int
    size: int
    digest: str

    def read(self) -> bytes:
        """The bytes, which are those that were written.

        Raises:
            ImageError: where they are not, or the file is not there or too short: this sample is damaged.
            DataError: where the file cannot be reached, which says nothing of the sample.
        """
        check_file_size(self.size)
        data = read_range(self.file, self.offset, self.size)
        if content_digest(data) != self.digest:
            raise ImageError(CHANGED)
        return data


def is_url(name: str) -> bool:
    return _URL.match(name) is not None


def read_range(file: str, offset: int, size: int) -> bytes:
    """Exactly `size` bytes. Raises as `Range.read`."""
    try:
        data = _fetch(file, offset, size) if is_url(file) else _pread(file, offset, size)
    except FileNotFoundError as error:
        raise ImageError(NOT_THERE) from error
    except OSError as error:
        if error.errno == errno.EIO and not is_url(file):
            raise ImageError("the disk cannot read it") from error
        raise _unreachable(file, error) from error
    if len(data) != size:
        raise ImageError(CUT_SHORT)
    return data


def get_file_size(file: str) -> int | None:
    """Bytes of the file; None where there is none.

    Raises:
        DataError: where it cannot be reached.
    """
    try:
        if not is_url(file):
            return os.stat(file).st_size  # noqa: PTH116 - of a name that may be a URL
        return _patiently(lambda: _http().http_size(file) if _is_http(file) else _stored_size(file))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreachable(file, error) from error


def iter_chunks(file: str, size: int) -> Iterator[bytes]:
    """The first `size` bytes of the file, some megabytes at a time. Raises as `Range.read`."""
    for offset in range(0, size, _PIECE):
        yield read_range(file, offset, min(_PIECE, size - offset))


def _unreachable(file: str, error: OSError) -> DataError:
    return DataError(f"{file!r} cannot be read: {error.strerror or error}; try again when it can")


def _pread(file: str, offset: int, size: int) -> bytes:
    handle = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        parts = []
        while size and (part := os.pread(handle, size, offset)):
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(handle)


def _fetch(file: str, offset: int, size: int) -> bytes:
    if not size:
        return b""
    return _patiently(lambda: _http().http_range(file, offset, size) if _is_http(file) else _stored(file, offset, size))


def _http() -> ModuleType:
    from megavit.data import http_range  # takes a while to import

    return http_range


class Refused(OSError):
    """An answer that asking again will not change."""


def _patiently(ask: Callable[[], T]) -> T:
    """What a store answers, asked again where it fails."""
    for wait in _WAITS:
        try:
            return ask()
        except (FileNotFoundError, Refused):
            raise
        except OSError:
            time.sleep(wait)
    return ask()


def _is_http(file: str) -> bool:
    return file.lower().startswith(("http://", "https://"))


@contextmanager
def _store(file: str) -> Iterator[tuple[Any, str]]:
    """The file system that fsspec has for a URL, which it keeps, and the path within.

    Every store raises kinds of its own; here they become OSErrors.
    """
    import fsspec

    try:
        store, path = fsspec.core.url_to_fs(file)
    except (ImportError, ValueError) as error:
        raise DataError(f"{file!r} cannot be read: {error}") from error
    except Exception as error:
        raise Refused(_first_line(error)) from error
    try:
        yield store, path
    except PermissionError as error:
        raise Refused(f"not allowed ({_first_line(error)})") from error
    except (OSError, MegavitError):
        raise
    except Exception as error:
        raise OSError(_first_line(error)) from error


def _stored(file: str, offset: int, size: int) -> bytes:
    with _store(file) as (store, path):
        return store.cat_file(path, start=offset, end=offset + size)


def _stored_size(file: str) -> int:
    with _store(file) as (store, path):
        size = store.size(path)
        if size is None:
            raise Refused("its store does not say how large it is")
        return int(size)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
