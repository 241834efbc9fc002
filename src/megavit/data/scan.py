"""List the candidates in a data source and inspect each image once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from megavit.config.target import TargetKind
from megavit.data.byte_range import ByteRange, content_digest
from megavit.data.dataset import MemoryImage, Skipped
from megavit.data.decode.image_file import NOT_AN_IMAGE, inspect_image, read_file_with_stamp
from megavit.data.targets import NamedTarget, names_in
from megavit.data.workers import count_workers, map_in_processes
from megavit.errors import ImageError

Progress = Callable[[int, int], None]
"""A function called with the number of items done and the total."""
NamedProgress = Callable[[str, int, int], None]
"""A function called with a description of the work, the number of items done and the total."""

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
        memory: images without files by name, or why one cannot be read.
    """

    root: Path | None
    classes: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]
    target: TargetKind = "classification"
    notes: tuple[str, ...] = ()
    memory: Mapping[str, MemoryImage | ImageError] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """The size in pixels (upright), channels, `Sample.digest` and `Sample.stamp` of a readable image."""

    height: int
    width: int
    channels: int
    digest: str
    stamp: int | None = field(default=None, compare=False)


def scan_images(listing: Listing, progress: Progress | None = None) -> list[ImageInfo | str]:
    """Return the properties of each candidate's image, or why it cannot be used; raise a DataError if a worker dies."""
    names = [candidate.name for candidate in listing.candidates]
    workers = count_workers(32) if len(names) >= MIN_IMAGES_FOR_WORKERS else 0
    if any(isinstance(image, torch.Tensor) for image in listing.memory.values()):
        workers = 0
    chunks = [
        [(name, listing.memory.get(name)) for name in names[start : start + _CHUNK]]
        for start in range(0, len(names), _CHUNK)
    ]
    found: list[ImageInfo | str] = []
    for infos in map_in_processes(partial(_inspect_chunk, listing.root or Path()), chunks, workers):
        found += infos
        if progress is not None:
            progress(len(found), len(names))
    return found


def _inspect_chunk(root: Path, images: Sequence[tuple[str, MemoryImage | ImageError | None]]) -> list[ImageInfo | str]:
    return [_inspect(root / name if image is None else image) for name, image in images]


def _inspect(image: Path | MemoryImage | ImageError) -> ImageInfo | str:
    stamp = None
    try:
        match image:
            case ImageError():
                return image.reason
            case torch.Tensor():
                channels, height, width = image.shape
                data = repr(tuple(image.shape)).encode() + image.permute(1, 2, 0).numpy().tobytes()
                return ImageInfo(height, width, channels, content_digest(data))
            case bytes():
                data = image
            case _:
                data, stamp = read_file_with_stamp(image)
        channels, height, width = inspect_image(data)
    except ImageError as error:
        if error.reason != NOT_AN_IMAGE or not isinstance(image, Path):
            return error.reason
        suffix = image.suffix[1:].lower()
        is_plain = suffix.isascii() and suffix.isalnum() and len(suffix) < 9
        return f"{NOT_AN_IMAGE} (.{suffix})" if is_plain else NOT_AN_IMAGE
    return ImageInfo(height, width, channels, content_digest(data), stamp)
