"""Every candidate is read to its end once, so that nothing unreadable is met later."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from megavit.data.byte_range import content_digest
from megavit.data.decode.image_file import NOT_AN_IMAGE, inspect_image, read_file_with_stamp
from megavit.data.workers import available_cpus, map_in_processes
from megavit.errors import ImageError

Progress = Callable[[int, int], None]
"""Called with how many are done and how many there are."""

MIN_IMAGES_FOR_WORKERS = 500
"""Images from which on starting processes is worth its while."""

_CHUNK = 64


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What is kept of an image that could be read: pixels upright, channels, `Sample.digest` and `Sample.stamp`."""

    height: int
    width: int
    channels: int
    digest: str
    stamp: int | None = field(default=None, compare=False)


def scan_images(root: Path, names: Sequence[str], progress: Progress | None = None) -> list[ImageInfo | str]:
    """For each name below `root`, in order, its facts, or the reason why it cannot be used.

    Raises:
        DataError: where a process that decodes died.
    """
    workers = min(available_cpus(), 32) if len(names) >= MIN_IMAGES_FOR_WORKERS else 0
    chunks = [(root, names[start : start + _CHUNK]) for start in range(0, len(names), _CHUNK)]
    found: list[ImageInfo | str] = []
    for facts in map_in_processes(_examine_chunk, chunks, workers):
        found += facts
        if progress is not None:
            progress(len(found), len(names))
    return found


def _examine_chunk(task: tuple[Path, Sequence[str]]) -> list[ImageInfo | str]:
    root, names = task
    return [_examine(root, name) for name in names]


def _examine(root: Path, name: str) -> ImageInfo | str:
    try:
        data, stamp = read_file_with_stamp(root / name)
        channels, height, width = inspect_image(data)
    except ImageError as error:
        return _with_suffix(name) if error.reason == NOT_AN_IMAGE else error.reason
    return ImageInfo(height, width, channels, content_digest(data), stamp)


def _with_suffix(name: str) -> str:
    """Says which kind of file it seems to be, where its suffix is a plain word that can be printed."""
    suffix = PurePosixPath(name).suffix[1:].lower()
    return f"{NOT_AN_IMAGE} (.{suffix})" if suffix.isascii() and suffix.isalnum() and len(suffix) < 9 else NOT_AN_IMAGE
