"""Read an image or a list of paths from standard input, with bounded memory."""

import codecs
import os
import re
from collections.abc import Iterator
from typing import BinaryIO

from megavit.data.decode.limits import MAX_BYTES
from megavit.data.shards.index import Damaged

STANDARD_INPUT = "-"
SIGNATURE = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8[79]a|RIFF....WEBP|BM....\0\0\0\0|II[*+]\0|MM\0[*+]|....ftypavi[fs]|\x93NUMPY",
    re.DOTALL,
)
"""The first bytes of JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF and NumPy files."""
_MAX_SIGNATURE_LENGTH = 12
_MAYBE_IMAGE = re.compile(rb"\xff\xd8|\x89P|GIF8|RIFF|BM|II[*+]|MM\0|.{0,3}\0|\x93N", re.DOTALL)
_CHUNK = 2**16

MAX_PATH_BYTES = 2**16  # Linux allows 4,096
MAX_BYTES_WITHOUT_PATH = 2**23  # after these, the input is not read as a list of paths
_MAX_SHOWN_CHARACTERS = 60


def read_standard_input(stream: BinaryIO) -> Iterator[bytes | str | tuple[str, Damaged]]:
    """Yield the bytes of one image, or each path of a list, or a name with the reason why it cannot be used.

    Paths end with a newline, or with NUL as from `find -print0`. Text with a byte order mark is decoded as UTF-8 or
    UTF-16; otherwise paths may be any bytes.
    """
    # A buffered stream would wait for a full buffer, and abort Python if a thread still reads it at exit.
    source = getattr(stream, "raw", stream)
    first = b""
    while len(first) < _MAX_SIGNATURE_LENGTH and not _is_text(first) and (more := source.read(_CHUNK)):
        first += more
    if SIGNATURE.match(first):
        yield _image(first, source)
        return
    chunks = _recode(_chain(first, source))
    first = next(chunks, b"")
    yield from _paths(_chain_chunks(first, chunks), b"\0" if b"\0" in first else b"\n")


def _image(first: bytes, source: BinaryIO) -> bytes | tuple[str, Damaged]:
    parts, size = [first], len(first)
    while size <= MAX_BYTES and (more := source.read(_CHUNK)):
        parts.append(more)
        size += len(more)
    if size > MAX_BYTES:
        return STANDARD_INPUT, Damaged(f"larger than the limit of {MAX_BYTES // 2**20} MiB")
    return b"".join(parts)


def _is_text(first: bytes) -> bool:
    return b"\n" in first and not _MAYBE_IMAGE.match(first)


def _paths(chunks: Iterator[bytes], end: bytes) -> Iterator[str | tuple[str, Damaged]]:
    rest, without_path, skipping = b"", 0, False
    for chunk in chunks:
        without_path += len(chunk)
        *lines, rest = (rest + chunk).split(end)
        for line in lines:
            if skipping:  # rest of an overlong line
                skipping = False
                continue
            name = line if end == b"\0" else line.rstrip(b"\r")
            if name:
                without_path = 0
                yield _path(name)
        if len(rest) > MAX_PATH_BYTES:
            if not skipping:
                yield _path(rest)
            rest, skipping = b"", True
        if without_path > MAX_BYTES_WITHOUT_PATH:
            reason = f"no path in {MAX_BYTES_WITHOUT_PATH // 2**20} MiB: pass one image, or one path per line"
            yield STANDARD_INPUT, Damaged(reason)
            return
    name = rest if end == b"\0" else rest.rstrip(b"\r")
    if name and not skipping:
        yield _path(name)


def _path(name: bytes) -> str | tuple[str, Damaged]:
    if len(name) <= MAX_PATH_BYTES:
        return os.fsdecode(name)
    return os.fsdecode(name[:_MAX_SHOWN_CHARACTERS]) + "...", Damaged(
        f"a line of more than {MAX_PATH_BYTES // 2**10} KiB is not a path"
    )


def _recode(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Remove the byte order mark, and convert UTF-16 to the encoding of file names."""
    first = next(chunks, b"")
    if first.startswith(codecs.BOM_UTF8):
        first = first.removeprefix(codecs.BOM_UTF8)
    elif first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        decode = codecs.getincrementaldecoder("utf-16")(errors="replace").decode
        yield from (os.fsencode(decode(chunk)) for chunk in _chain_chunks(first, chunks))
        return
    yield from _chain_chunks(first, chunks)


def _chain(first: bytes, source: BinaryIO) -> Iterator[bytes]:
    yield first
    yield from iter(lambda: source.read(_CHUNK), b"")


def _chain_chunks(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
