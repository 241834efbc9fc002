"""What a person names on the command line, as a stream of images: files, folders, patterns, standard input."""

import glob
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from megavit.data.ranges import Range
from megavit.data.shards.index import Damaged, contents
from megavit.data.shards.opened import is_shards, open_shards

STANDARD_INPUT = "-"
# How the files of JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF and NumPy begin: an image itself came, not a list of paths.
SIGNATURE = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8[79]a|RIFF....WEBP|BM....\0\0\0\0|II[*+]\0|MM\0[*+]|....ftypavi[fs]|\x93NUMPY",
    re.DOTALL,
)
_LONGEST_SIGNATURE = 12
_MAYBE_IMAGE = re.compile(rb"\xff\xd8|\x89P|GIF8|RIFF|BM|II[*+]|MM\0|.{0,3}\0|\x93N", re.DOTALL)
_CHUNK = 2**16


def images_named(
    sources: Iterable[str], standard_input: BinaryIO
) -> Iterator[tuple[str, Path | bytes | Range | Damaged]]:
    """(name, path or bytes) of every image, found as they are asked for.

    Shards, by a path or URL as of `megavit.data.shards.opened`, stand for all images in them, and for what is damaged.

    A folder stands for all files below it, hidden ones left out, in order of name; a pattern (with `*`, `?` or
    `[`, unless a file has that very name) for what it matches; "-" for standard input: one image, or a path a line.
    A name that matches nothing comes out as it is, so that whoever reads it says so.
    """
    for source in sources:
        if source == STANDARD_INPUT:
            yield from _from_stream(standard_input)
        elif is_shards(source):
            folder, index = open_shards(source)
            for shard in contents(folder, index).values():
                yield from shard
        else:
            for path in _matches(source):
                yield from ((str(file), file) for file in _files(path, frozenset()))


def _matches(source: str) -> list[Path]:
    if not os.path.lexists(source) and glob.has_magic(source):
        # Path.glob takes no absolute pattern.
        return [Path(name) for name in sorted(glob.glob(source, recursive=True))] or [Path(source)]  # noqa: PTH207
    return [Path(source)]


def _from_stream(stream: BinaryIO) -> Iterator[tuple[str, Path | bytes]]:
    # Below its buffer a pipe gives what has come; the buffer would wait for more, and at the process's end Python
    # aborts on one that a thread still reads.
    source = getattr(stream, "raw", stream)
    first = b""
    while len(first) < _LONGEST_SIGNATURE and not _is_text(first) and (more := source.read(_CHUNK)):
        first += more
    if SIGNATURE.match(first):
        yield STANDARD_INPUT, b"".join([first, *iter(lambda: source.read(_CHUNK), b"")])
        return
    for line in _lines(first, source):
        path = os.fsdecode(line.rstrip(b"\r\n"))
        if path:
            yield path, Path(path)


def _is_text(first: bytes) -> bool:
    """Whether a line has come, with nothing in it that could begin an image."""
    return b"\n" in first and not _MAYBE_IMAGE.match(first)


def _lines(rest: bytes, source: BinaryIO) -> Iterator[bytes]:
    while True:
        *lines, rest = rest.split(b"\n")
        yield from lines
        more = source.read(_CHUNK)
        if not more:
            break
        rest += more
    yield rest


def _files(path: Path, entered: frozenset[Path]) -> Iterator[Path]:
    """`path`, or the files below it if it is a folder; one that its own links lead back to is not entered again."""
    if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises for names that are too long or not ours to look up
        yield path
        return
    real = path.resolve()
    if real in entered:
        return
    try:
        names = sorted(name for name in os.listdir(path) if not name.startswith("."))  # noqa: PTH208 - strings sort
    except OSError:
        yield path  # reading it as an image then says why it cannot be read
        return
    for name in names:
        yield from _files(path / name, entered | {real})
