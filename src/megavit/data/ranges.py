"""Some bytes in the middle of a file, on a disk or by URL, known by their digest."""

import errno
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from megavit.data.limits import check_bytes
from megavit.errors import DataError, ImageError

NOT_THERE = "its shard is not there"
CUT_SHORT = "its shard is cut short"
CHANGED = "not the bytes that were written"

AT_ONCE = 16
"""Requests to a store, of each process that reads from it."""

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_PIECE = 2**23
# A store that is asked by thousands at once refuses some; these waits, in seconds, are between tries.
_WAITS = (0.2, 1.0, 4.0)
_TIMEOUT_SECONDS = 30.0


def digest(data: bytes) -> str:
    """The `Sample.digest` of a file's bytes: BLAKE2b, 8 bytes, in hex."""
    return blake2b(data, digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Range:
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
        check_bytes(self.size)
        data = read_range(self.file, self.offset, self.size)
        if digest(data) != self.digest:
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
        raise DataError(f"{file!r} cannot be read: {error.strerror or error}; try again when it can") from error
    if len(data) != size:
        raise ImageError(CUT_SHORT)
    return data


def size_of(file: str) -> int | None:
    """Bytes of the file; None where there is none.

    Raises:
        DataError: where it cannot be reached.
    """
    try:
        if not is_url(file):
            return os.stat(file).st_size  # noqa: PTH116 - of a name that may be a URL
        return _http("HEAD", file) if _is_http(file) else int(_store(file)[0].size(_store(file)[1]))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{file!r} cannot be read: {error.strerror or error}; try again when it can") from error


def pieces(file: str, size: int) -> Iterator[bytes]:
    """The first `size` bytes of the file, some megabytes at a time. Raises as `Range.read`."""
    for offset in range(0, size, _PIECE):
        yield read_range(file, offset, min(_PIECE, size - offset))


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
    if _is_http(file):
        return _http("GET", file, offset, size) if size else b""
    store, path = _store(file)
    return store.cat_file(path, start=offset, end=offset + size)


def _is_http(file: str) -> bool:
    return file.lower().startswith(("http://", "https://"))


def _store(file: str) -> tuple[Any, str]:
    """The file system that fsspec has for a URL, which it keeps, and the path within."""
    import fsspec

    try:
        store, path = fsspec.core.url_to_fs(file)
    except (ImportError, ValueError) as error:
        raise DataError(f"{file!r} cannot be read: {error}") from error
    return store, path


@lru_cache(maxsize=1)
def _client(_process: int) -> Any:
    """One for each process: a connection must not be shared with a child."""
    import httpx

    return httpx.Client(follow_redirects=True, timeout=_TIMEOUT_SECONDS)


def _http(method: str, url: str, offset: int = 0, size: int = 0) -> Any:
    """For GET the bytes of the range, for HEAD the size of the file."""
    import httpx

    headers = {"Range": f"bytes={offset}-{offset + size - 1}"} if method == "GET" else {}
    fault = ""
    for wait in (*_WAITS, None):
        try:
            answer = _client(os.getpid()).request(method, url, headers={"Accept-Encoding": "identity"} | headers)
            if answer.status_code in (404, 410):
                raise FileNotFoundError(url)
            if answer.status_code == 416:
                return b""  # the range begins beyond the end
            if answer.status_code == 200 and method == "GET":
                raise DataError(f"the server of {url!r} does not answer for parts of a file; copy the shards here")
            if answer.status_code in (200, 206):
                return answer.content if method == "GET" else int(answer.headers["content-length"])
            fault = f"the server answers {answer.status_code}"
            if answer.status_code < 500 and answer.status_code != 429:
                break
        except httpx.HTTPError as error:
            fault = str(error) or type(error).__name__
        if wait is not None:
            time.sleep(wait)
    raise OSError(fault)
