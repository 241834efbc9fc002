"""Write tar files, and read them by their headers without unpacking."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from megavit.data.decode.limits import MAX_BYTES

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
_MAX_HEADER_BYTES = 2**16  # extended headers are kept in memory
_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class TarEntry:
    """A file of `size` bytes at `offset` in a tar file; `fault` is why it cannot be read, if so."""

    name: str
    offset: int
    size: int
    fault: str = ""


class Readable(Protocol):
    """The interface of a stream, which may support seeking forward only."""

    def seek(self, offset: int, /) -> object: ...
    def read(self, size: int, /) -> bytes: ...


def header(name: str, size: int) -> bytes:
    """Return a tar header without time and owner, so that equal content gives equal bytes."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def padding(size: int) -> bytes:
    """Return the bytes that fill the last block of a file of `size` bytes."""
    return bytes(-size % BLOCK)


def entry_size(size: int) -> int:
    """Return the number of bytes that a file of `size` bytes takes in a tar file, with header and padding."""
    return BLOCK + size + -size % BLOCK


def read_entries(stream: Readable, size: int) -> Iterator[TarEntry | str]:
    """Yield the files in a tar file of `size` bytes, and last a message if it is damaged or truncated.

    Folders are left out; links and devices have a `fault`. Content after the end marker is damage, as a header that
    was overwritten by zeros looks like one.
    """
    offset = 0
    zeros = 0
    name = ""
    while offset + BLOCK <= size:
        stream.seek(offset)
        block = stream.read(BLOCK)
        if len(block) < BLOCK:
            break
        if not any(block):
            zeros += 1
            offset += BLOCK
            if zeros == 2:
                if not _only_zeros(stream, offset, size):
                    yield "damaged: it has content after its end marker"
                return
            continue
        if zeros:
            yield "damaged: the header of a file cannot be read"
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            yield "damaged: the header of a file cannot be read"
            return
        start = offset + BLOCK
        offset = start + info.size + -info.size % BLOCK
        if info.size < 0:
            yield "damaged: it has a file of negative size"
            return
        if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE):
            if info.size <= _MAX_HEADER_BYTES and info.type != tarfile.XGLTYPE:
                long_name = _long_name(stream.read(info.size), info.type)
                name = long_name or name
            continue
        if start + info.size > size:
            yield f"truncated within {(name or info.name)[-80:]!r}"
            return
        if not info.isdir():
            yield TarEntry(name or info.name, start, info.size, _fault(info))
        name = ""
    if not zeros:
        yield "truncated"


def _fault(info: tarfile.TarInfo) -> str:
    if info.type in (tarfile.LNKTYPE, tarfile.SYMTYPE):
        return "a link, which is not followed: put the file itself into the tar"
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
        return "not a regular file"
    return f"the file exceeds the limit of {MAX_BYTES // 2**20} MiB" if info.size > MAX_BYTES else ""


def _only_zeros(stream: Readable, start: int, end: int) -> bool:
    for offset in range(start, end, _CHUNK_BYTES):
        stream.seek(offset)
        if any(stream.read(min(_CHUNK_BYTES, end - offset))):
            return False
    return True


def _long_name(data: bytes, kind: bytes) -> str:
    """Return the name in a GNU or POSIX header that precedes a file, or ""."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        return data.rstrip(b"\0").decode("utf-8", "surrogateescape")
    stream = io.BytesIO(data)
    # A POSIX pax record is "LENGTH KEY=VALUE\n", where LENGTH counts all of it.
    while length := _digits(stream):
        record = stream.read(length)
        if record.startswith(b"path="):
            return record[5:].rstrip(b"\n").decode("utf-8", "surrogateescape")
    return ""


def _digits(stream: io.BytesIO) -> int:
    """Return the number of bytes in a pax record after its length and the space; 0 if there is none."""
    digits = b""
    while (character := stream.read(1)).isdigit() and len(digits) < 6:
        digits += character
    return max(0, int(digits) - len(digits) - 1) if digits and character == b" " else 0
