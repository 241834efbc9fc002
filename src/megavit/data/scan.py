"""List the candidates in a data source and inspect each image once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from megavit.config.target import TargetKind
from megavit.data.byte_range import ByteRange, content_digest
from megavit.data.dataset import Skipped
from megavit.data.decode.image_file import NOT_AN_IMAGE, inspect_image, read_file_with_stamp
from megavit.data.targets import NamedTarget, names_in
from megavit.data.workers import count_workers, map_in_processes
from megavit.errors import ImageError

Progress = Callable[[int, int], None]
"""A function called with the number of items done and the total."""

MIN_IMAGES_FOR_WORKERS = 500  # number of images below which reading is faster than starting processes

_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be an image.

    Attributes:
        name: name relative to the data's root.
        target: name of its class, sorted names of its labels, or a number.
        split: split defined by the data, or None.
        location: byte range in a shard; None for a file of its own.
    """

    name: str
    target: NamedTarget
    split: str | None
    location: ByteRange | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the class or labels; none for a number."""
        return names_in(self.target)


@dataclass(frozen=True, slots=True)
class Listing:
    """The candidates in a source, before any is opened.

    Attributes:
        root: folder that names are relative to; None for data at a URL.
        classes: names of the classes or labels, including those without images; empty for regression.
        notes: remarks on how the source was read, for its owner.
    """

    root: Path | None
    classes: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]
    target: TargetKind = "classification"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """The size in pixels (upright), channels, `Sample.digest` and `Sample.stamp` of a readable image."""

    height: int
    width: int
    channels: int
    digest: str
    stamp: int | None = field(default=None, compare=False)


def scan_images(root: Path, names: Sequence[str], progress: Progress | None = None) -> list[ImageInfo | str]:
    """Return the properties of each file below `root`, or why it cannot be used; raise a DataError if a worker dies."""
    workers = count_workers(32) if len(names) >= MIN_IMAGES_FOR_WORKERS else 0
    chunks = [(root, names[start : start + _CHUNK]) for start in range(0, len(names), _CHUNK)]
    found: list[ImageInfo | str] = []
    for infos in map_in_processes(_inspect_chunk, chunks, workers):
        found += infos
        if progress is not None:
            progress(len(found), len(names))
    return found


def _inspect_chunk(task: tuple[Path, Sequence[str]]) -> list[ImageInfo | str]:
    root, names = task
    return [_inspect(root, name) for name in names]


def _inspect(root: Path, name: str) -> ImageInfo | str:
    try:
        data, stamp = read_file_with_stamp(root / name)
        channels, height, width = inspect_image(data)
    except ImageError as error:
        if error.reason != NOT_AN_IMAGE:
            return error.reason
        suffix = PurePosixPath(name).suffix[1:].lower()
        is_plain = suffix.isascii() and suffix.isalnum() and len(suffix) < 9
        return f"{NOT_AN_IMAGE} (.{suffix})" if is_plain else NOT_AN_IMAGE
    return ImageInfo(height, width, channels, content_digest(data), stamp)
