"""What a person names on the command line, as a stream of images: files, folders, patterns, standard input."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from megavit.data.byte_range import ByteRange, is_url
from megavit.data.shards.index import Damaged, is_tar, list_contents
from megavit.data.shards.open import is_shards, open_shards
from megavit.errors import DataError, ImageError
from megavit.predict.standard_input import STANDARD_INPUT, read_standard_input

Named = tuple[str, "Path | bytes | ByteRange | IsolatedRange | Damaged"]
"""A name and where its image is, or why there is none."""

URL_OF_AN_IMAGE = (
    "a URL, and images are not fetched: download it and name the file (a URL of shards ends with .tar, or with / for "
    "a folder)"
)


class IsolatedRange:
    """An image of shards that is named among others: a store that does not answer costs these images alone.

    Args:
        range: of its bytes.
        faults: the reason why the store does not answer, once it did not, shared with all images of these shards: it
            is not asked again for each.
    """

    def __init__(self, range: ByteRange, faults: list[str]) -> None:
        self._range, self._faults = range, faults

    def read(self) -> bytes:
        """The bytes.

        Raises:
            ImageError: whatever it is that keeps them from being read.
        """
        if self._faults:
            raise ImageError(self._faults[0])
        try:
            return self._range.read()
        except ImageError:
            raise
        except DataError as error:
            self._faults.append(str(error))
            raise ImageError(self._faults[0]) from error


def iter_images(sources: Iterable[str], standard_input: BinaryIO) -> Iterator[Named]:
    """(name, path or bytes) of every image, found as they are asked for.

    Shards, by a path or URL as of `megavit.data.shards.open`, stand for all images in them, and for what is damaged.

    A folder stands for all files below it, hidden ones left out, in order of name; a pattern (with `*`, `?` or
    `[`, unless a file has that very name) for what it matches; "-" for standard input: one image, or a path a line.
    A name that matches nothing comes out as it is, so that whoever reads it says so; one that stands for images that
    cannot be found comes with the reason. Nothing is raised: no name costs the others.
    """
    for source in sources:
        if source == STANDARD_INPUT:
            for found in read_standard_input(standard_input):
                match found:
                    case bytes():
                        yield STANDARD_INPUT, found
                    case str():
                        yield found, Damaged(URL_OF_AN_IMAGE) if is_url(found) else Path(found)
                    case _:
                        yield found
            continue
        count = 0
        for count, one in enumerate(_images_of(source), start=1):  # noqa: B007 - counted
            yield one
        if not count:
            yield source, Damaged("there are no images in it")


def names_shards(source: str) -> bool:
    """Whether a name on the command line stands for shards: of URLs those of a tar file, of an index, or of a folder.

    A URL whose last part has another ending, or that has a query, is of something else.
    """
    try:
        if not is_url(source):
            return is_shards(source)
        parts = urlsplit(source)
    except (OSError, ValueError):  # of a folder that is not ours to look into, or no URL
        return False
    return not parts.query and (is_tar(source) or "." not in parts.path.rpartition("/")[2])


def _images_of(source: str) -> Iterator[Named]:
    """Of one name that is not standard input."""
    if not source:
        yield source, Damaged("an empty name, as of a variable that is not set")
        return
    if names_shards(source):
        yield from _in_shards(source)
    elif is_url(source):
        yield source, Damaged(URL_OF_AN_IMAGE)
    else:
        for path in _matches(source):
            yield from ((str(file), file) for file in _files(path, frozenset()))


def _in_shards(source: str) -> Iterator[Named]:
    try:
        folder, index = open_shards(source)
        shards = list_contents(folder, index)
    except DataError as error:
        yield source, Damaged(str(error))
        return
    except OSError as error:
        yield source, Damaged((error.strerror or str(error)).lower())
        return
    faults: list[str] = []
    for shard in shards.values():
        yield from (
            (name, IsolatedRange(where, faults) if isinstance(where, ByteRange) else where) for name, where in shard
        )


def _matches(source: str) -> list[Path]:
    if not os.path.lexists(source) and glob.has_magic(source):
        # Path.glob takes no absolute pattern.
        return [Path(name) for name in sorted(glob.glob(source, recursive=True))] or [Path(source)]  # noqa: PTH207
    return [Path(source)]


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
