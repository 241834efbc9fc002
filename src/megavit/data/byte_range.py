"""Read byte ranges of local or remote files and check their digests."""

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

from megavit.data.decode.limits import check_file_size
from megavit.errors import DataError, ImageError

SHARD_MISSING = "its shard is missing"
SHARD_TRUNCATED = "its shard is truncated"
DIGEST_MISMATCH = "its bytes do not match their digest"

MAX_CONCURRENT_REQUESTS = 16  # number of concurrent requests to a store by each process

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_CHUNK_BYTES = 2**23


def content_digest(data: bytes) -> str:
    """Return the BLAKE2b digest of a file's bytes (8 bytes, in hex), as in `Sample.digest`."""
    return blake2b(data, digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A range of `size` bytes from `offset` on in a file, given by path or URL, and its digest."""

    file: str
    offset: int
    size: int
    digest: str

    def read(self) -> bytes:
        """Return the bytes after checking their digest.

        Raises:
            ImageError: if the bytes are damaged, or the file is missing or too short.
            DataError: if the file cannot be reached, which says nothing about the bytes.
        """
        check_file_size(self.size)
        data = read_range(self.file, self.offset, self.size)
        if content_digest(data) != self.digest:
            raise ImageError(DIGEST_MISMATCH)
        return data


def is_url(name: str) -> bool:
    return _URL.match(name) is not None


def read_range(file: str, offset: int, size: int) -> bytes:
    """Return exactly `size` bytes from `offset` on; errors are those of `ByteRange.read`."""
    try:
        if is_url(file):
            from megavit.data.remote import fetch_range  # takes a while to import

            data = fetch_range(file, offset, size)
        else:
            data = _read_local(file, offset, size)
    except FileNotFoundError as error:
        raise ImageError(SHARD_MISSING) from error
    except OSError as error:
        if error.errno == errno.EIO and not is_url(file):
            raise ImageError("the disk reported a read error") from error
        raise _unreachable_error(file, error) from error
    if len(data) != size:
        raise ImageError(SHARD_TRUNCATED)
    return data


def get_file_size(file: str) -> int | None:
    """Return the size of a file in bytes, or None if it does not exist; raise a DataError if it cannot be reached."""
    try:
        if not is_url(file):
            return os.stat(file).st_size  # noqa: PTH116 - of a name that may be a URL
        from megavit.data.remote import fetch_size

        return fetch_size(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreachable_error(file, error) from error


def iter_chunks(file: str, size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes of a file in chunks of 8 MiB; errors are those of `ByteRange.read`."""
    for offset in range(0, size, _CHUNK_BYTES):
        yield read_range(file, offset, min(_CHUNK_BYTES, size - offset))


def _unreachable_error(file: str, error: OSError) -> DataError:
    return DataError(f"{file!r} cannot be read: {error.strerror or error}; try again later")


def _read_local(file: str, offset: int, size: int) -> bytes:
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        parts = []
        os.lseek(descriptor, offset, os.SEEK_SET)
        while size and (part := os.read(descriptor, size)):
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(descriptor)
