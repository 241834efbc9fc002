"""Stream the images named on the command line by files, folders, glob patterns, shards or standard input."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from megavit.data.byte_range import ByteRange, is_url
from megavit.data.shards.index import Damaged, is_tar, list_contents
from megavit.data.shards.open import is_shards, open_shards
from megavit.errors import DataError, ImageError
from megavit.predict.standard_input import STANDARD_INPUT, read_standard_input

NamedImage = tuple[str, "Path | bytes | ByteRange | IsolatedRange | Damaged"]
"""The name of an image with its source, or with the reason why it has none."""

IMAGE_URL_REASON = (
    "image URLs are not fetched: download the image and pass the file (a URL of shards ends with .tar, or with / for "
    "a folder)"
)


class IsolatedRange:
    """An image in a shard, whose storage may fail without stopping the other inputs.

    The storage's first error is added to `faults`, shared by all images of these shards, and ends all reading.
    """

    def __init__(self, range: ByteRange, faults: list[str]) -> None:
        self._range, self._faults = range, faults

    def read(self) -> bytes:
        """Return the bytes of the image, or raise an ImageError if they cannot be read for any reason."""
        if self._faults:
            raise ImageError(self._faults[0])
        try:
            return self._range.read()
        except ImageError:
            raise
        except DataError as error:
            self._faults.append(str(error))
            raise ImageError(self._faults[0]) from error


def image_file(image: Any) -> Path | bytes | None:
    """Return the path or bytes of an image file, or None for other objects; raise an ImageError if it is damaged."""
    match image:
        case str() | os.PathLike():
            return Path(image)
        case bytes():
            return image
        case ByteRange() | IsolatedRange():
            return image.read()
        case Damaged():
            raise ImageError(image.reason)
    return None


def iter_images(sources: Iterable[str], standard_input: BinaryIO) -> Iterator[NamedImage]:
    """Yield the name and source of every image, lazily and without raising.

    A path or URL of shards yields all images in them, see `megavit.data.shards.open`; a folder, all files below it
    except hidden ones, sorted by name; a glob pattern, its matches, unless a file has that very name; and "-", one
    image or one path per line from standard input. A name without a match is yielded as a path, so that reading it
    raises the reason; a source that cannot be listed is yielded as `Damaged`.
    """
    for source in sources:
        if source == STANDARD_INPUT:
            for item in read_standard_input(standard_input):
                match item:
                    case bytes():
                        yield STANDARD_INPUT, item
                    case str():
                        yield item, Damaged(IMAGE_URL_REASON) if is_url(item) else Path(item)
                    case _:
                        yield item
            continue
        count = 0
        for count, image in enumerate(_iter_source(source), start=1):  # noqa: B007 - counted
            yield image
        if not count:
            yield source, Damaged("there are no images in it")


def is_shard_source(source: str) -> bool:
    """Return whether a source is a path of shards, or a URL of a tar file or a folder, without a query."""
    try:
        if not is_url(source):
            return is_shards(source)
        parts = urlsplit(source)
    except (OSError, ValueError):  # no access to the folder, or an invalid URL
        return False
    return not parts.query and (is_tar(source) or "." not in parts.path.rpartition("/")[2])


def _iter_source(source: str) -> Iterator[NamedImage]:
    if not source:
        yield source, Damaged("the name is empty, as from an unset variable")
        return
    if is_shard_source(source):
        yield from _iter_shards(source)
    elif is_url(source):
        yield source, Damaged(IMAGE_URL_REASON)
    else:
        for path in _matches(source):
            yield from ((file.as_posix(), file) for file in _files(path, frozenset()))


def _iter_shards(source: str) -> Iterator[NamedImage]:
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
            (name, IsolatedRange(image, faults) if isinstance(image, ByteRange) else image) for name, image in shard
        )


def _matches(source: str) -> list[Path]:
    if not os.path.lexists(source) and glob.has_magic(source):
        # Path.glob does not support absolute patterns.
        return [Path(name) for name in sorted(glob.glob(source, recursive=True))] or [Path(source)]  # noqa: PTH207
    return [Path(source)]


def _files(path: Path, entered: frozenset[Path]) -> Iterator[Path]:
    """Yield `path`, or the files below a folder; folders that contain themselves by a link are entered only once."""
    if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises for names that are too long or not ours to look up
        yield path
        return
    real = path.resolve()
    if real in entered:
        return
    try:
        names = sorted(name for name in os.listdir(path) if not name.startswith("."))  # noqa: PTH208 - strings sort
    except OSError:
        yield path  # reading it as an image raises the reason
        return
    for name in names:
        yield from _files(path / name, entered | {real})
