"""Represent labeled images by names, targets and splits, and read their pixels on demand."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from json.encoder import encode_basestring_ascii as quoted
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch

from megavit.config.recipe import DataRecipe, OnCorrupt
from megavit.config.target import TargetKind, join_labels
from megavit.data.byte_range import ByteRange, content_digest
from megavit.data.decode.image_file import read_file_with_stamp
from megavit.data.decode.tensor import decode
from megavit.data.replacement import Replacements
from megavit.data.split.split_names import SPLITS
from megavit.data.targets import TargetValue as TargetValue
from megavit.data.targets import name_target
from megavit.errors import DataError, ImageError, OutputError
from megavit.runtime.csv_files import TableError, csv_text, read_csv, unescape_row

T = TypeVar("T")

MemoryImage = torch.Tensor | bytes
"""An image without a file of its own: uint8 pixels (C, H, W), or the bytes of a file."""

_ROWS_PER_UPDATE = 4096  # number of rows hashed at once

TARGET_COLUMNS: dict[TargetKind, str] = {"classification": "label", "multilabel": "labels", "regression": "score"}


@dataclass(frozen=True, slots=True)
class Sample:
    """A readable image with its target and split.

    Attributes:
        name: path relative to the data's root, with "/", or the image's ID in a demo set.
        target: class index, sorted tuple of label indices, or a float for regression.
        split: "train", "val" or "test".
        height, width: size in pixels after EXIF rotation.
        channels: 1 for gray, 3 for color, or the number of channels in an array or TIFF.
        digest: BLAKE2b digest of the file's bytes (8 bytes, in hex); equal for identical files.
        location: byte range in a shard; None for a file of its own.
        stamp: stamp of a separate file when first read (`megavit.data.decode.image_file.read_file_with_stamp`).
    """

    name: str
    target: TargetValue
    split: str
    height: int
    width: int
    channels: int
    digest: str
    location: ByteRange | None = field(default=None, compare=False)
    stamp: int | None = field(default=None, compare=False)

    @property
    def label(self) -> int:
        """The class index; raises a TypeError for multilabel and regression targets."""
        if not isinstance(self.target, int):
            raise TypeError(f"{self.name!r} has no single class: its target is {self.target!r}")
        return self.target

    @property
    def labels(self) -> tuple[int, ...]:
        """The label indices; raises a TypeError for targets of another kind."""
        if not isinstance(self.target, tuple):
            raise TypeError(f"{self.name!r} has no labels: its target is {self.target!r}")
        return self.target

    @property
    def value(self) -> float:
        """The number to predict; raises a TypeError for targets of another kind."""
        if not isinstance(self.target, float):
            raise TypeError(f"{self.name!r} has no value: its target is {self.target!r}")
        return self.target


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder that was skipped, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class LabeledImages:
    """A data set of images with targets.

    Attributes:
        source: data source given by the user.
        root: folder of the images or shards; None for images in `memory` or at a URL.
        classes: names of the classes or labels, in the order of their indices; empty for regression.
        samples: all readable images, sorted by name.
        skipped: files and folders that are not used.
        split_description: sentence that describes the split.
        memory: images without files, by name.
        target: kind of target.
        on_corrupt: handling of damaged bytes in shards: "skip" or "fail", as in `DataRecipe`.
        notes: remarks on how the data was read, for its owner.
        recipe: settings with which it was read.
    """

    source: str
    root: Path | None
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    skipped: tuple[Skipped, ...]
    split_description: str
    memory: Mapping[str, MemoryImage] = field(default_factory=dict, repr=False, compare=False)
    target: TargetKind = "classification"
    on_corrupt: OnCorrupt = "skip"
    notes: tuple[str, ...] = field(default=(), compare=False)
    recipe: DataRecipe = field(default_factory=DataRecipe, repr=False, compare=False)
    _cache: dict[Callable[..., Any], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def compute_once(self, compute: Callable[["LabeledImages"], T]) -> T:
        """Return the result of a function of these images, computed at the first call."""
        if compute not in self._cache:
            self._cache[compute] = compute(self)
        return self._cache[compute]

    @property
    def is_decoded(self) -> bool:
        """Whether pixels are in memory already, which other processes would only copy."""
        return any(isinstance(image, torch.Tensor) for image in self.memory.values())

    def in_split(self, split: str) -> tuple[Sample, ...]:
        """Return the samples of "train", "val" or "test"."""
        return tuple(sample for sample in self.samples if sample.split == split)

    def split_sizes(self) -> dict[str, int]:
        """Return the number of images in each split, including empty ones."""
        counts = Counter(sample.split for sample in self.samples)
        return {split: counts[split] for split in SPLITS}

    def class_counts(self) -> dict[str, dict[str, int]]:
        """Return the number of images by split and by class or label, including zeros."""
        counts: Counter[tuple[str, int]] = Counter()
        for (split, target), images in Counter((sample.split, sample.target) for sample in self.samples).items():
            labels = () if isinstance(target, float) else target if isinstance(target, tuple) else (target,)
            counts.update({(split, label): images for label in labels})
        return {split: {name: counts[split, label] for label, name in enumerate(self.classes)} for split in SPLITS}

    def skipped_by_reason(self) -> dict[str, int]:
        """Return the number of skipped files by reason, the most frequent first."""
        return dict(Counter(skipped.reason for skipped in self.skipped).most_common())

    def fingerprint(self) -> str:
        """Return 32 hex digits that depend on the bytes, names, targets and splits of all images, and nothing else."""
        return self.compute_once(_fingerprint)

    def load_pixels(self, sample: Sample, target_size: tuple[int, int] | None = None) -> torch.Tensor:
        """Return a sample's pixels, uint8 (C, H, W), decoded for resizing to `target_size` (height, width).

        Raises:
            DataError: if its file cannot be read any more or has changed.
        """
        pixels = self.memory.get(sample.name)
        if isinstance(pixels, torch.Tensor):
            return pixels
        try:
            return decode(
                self._content(sample) if sample.location is None else self.read_or_replace(sample)[1], target_size
            )
        except ImageError as error:
            raise self.unreadable_error(sample, error.reason) from error

    def _content(self, sample: Sample) -> bytes:
        stored = self.memory.get(sample.name)
        if isinstance(stored, bytes):
            return stored
        assert self.root is not None
        data, stamp = read_file_with_stamp(self.root / sample.name)
        # Hashing costs up to a tenth of decoding, so an unchanged stamp suffices.
        if (stamp is None or stamp != sample.stamp) and content_digest(data) != sample.digest:
            raise DataError(
                f"{sample.name!r} of {self.source!r} has changed since the run began: its bytes differ. "
                "Restore the original, or start again"
            )
        return data

    def unreadable_error(self, sample: Sample, reason: str) -> DataError:
        """Return an error for a sample that was readable when the data was scanned and is not any more."""
        return DataError(
            f"{sample.name!r} of {self.source!r} can no longer be read: {reason}. Restore it, or start again without it"
        )

    def read_or_replace(self, sample: Sample) -> tuple[Sample, bytes, Skipped | None]:
        """Return a sample of a shard or its replacement, the bytes, and what was damaged or None.

        Raises:
            ImageError: if the sample is damaged and there is no replacement.
            DataError: if the shard cannot be reached.
        """
        assert sample.location is not None
        try:
            return sample, sample.location.read(), None
        except ImageError as error:
            reason = error.reason
        if self.on_corrupt == "skip":
            for candidate in (self.samples[index] for index in self.compute_once(_replacements).candidates(sample)):
                if candidate.location is not None:
                    with suppress(ImageError):
                        return candidate, candidate.location.read(), Skipped(sample.name, reason)
        raise ImageError(reason)


def _replacements(images: LabeledImages) -> Replacements:
    return Replacements(images.samples)


def _fingerprint(images: LabeledImages) -> str:
    hasher = blake2b(digest_size=16)
    targets = {
        target: json.dumps(name_target(target, images.classes))
        for target in {sample.target for sample in images.samples}
    }
    rows: list[str] = []
    for sample in sorted(images.samples, key=attrgetter("name")):
        # Floats are not keys of `targets`, because 0.0 and -0.0 are equal.
        target = repr(sample.target) if isinstance(sample.target, float) else targets[sample.target]
        name, digest = quoted(sample.name), quoted(sample.digest)
        rows.append(f'[{name}, {target}, "{sample.split}", {digest}]')
        if len(rows) == _ROWS_PER_UPDATE:
            hasher.update("".join(rows).encode("ascii"))
            rows.clear()
    hasher.update("".join(rows).encode("ascii"))
    return hasher.hexdigest()


@dataclass(frozen=True, slots=True)
class SampleRow:
    """A row of a table written by `write_samples`; its target is a number, or has names instead of indices."""

    name: str
    target: str
    split: str
    digest: str


def write_samples(
    path: Path, samples: Sequence[Sample], classes: Sequence[str], target: TargetKind = "classification"
) -> None:
    """Write the CSV of `samples_csv`, or raise an OutputError if `path` cannot be written."""
    try:
        path.write_bytes(samples_csv(samples, classes, target))
    except OSError as error:
        raise OutputError(f"the list of samples cannot be written to {str(path)!r}: {error.strerror}") from error


def samples_csv(samples: Sequence[Sample], classes: Sequence[str], target: TargetKind = "classification") -> bytes:
    """Return a CSV of name, target, split and digest of each sample; file names that are not UTF-8 survive."""
    return rows_csv((sample_row(sample, classes) for sample in samples), target)


def sample_row(sample: Sample, classes: Sequence[str]) -> SampleRow:
    """Return the row of a sample, with the names of its classes."""
    named = name_target(sample.target, classes)
    return SampleRow(
        sample.name, join_labels(named) if isinstance(named, tuple) else str(named), sample.split, sample.digest
    )


def rows_csv(rows: Iterable[SampleRow], target: TargetKind = "classification") -> bytes:
    """Return the CSV of `samples_csv` from its rows."""
    return csv_text(_header(target), ((row.name, row.target, row.split, row.digest) for row in rows))


def read_samples(path: Path) -> tuple[SampleRow, ...]:
    """Read a table written by `write_samples`, or raise a DataError if it cannot be read or is damaged."""
    headers = [_header(target) for target in get_args(TargetKind)]
    try:
        with path.open("rb") as file:
            rows = read_csv(file, errors="surrogateescape")
            header = next(rows, (0, []))[1]
            lines = [unescape_row(line) for _, line in rows]
    except OSError as error:
        raise DataError(f"the list of samples {str(path)!r} cannot be read: {error.strerror}") from error
    except TableError as error:
        raise DataError(f"the list of samples {str(path)!r} is damaged: {error}") from error
    if tuple(header) not in headers:
        known = " or ".join(",".join(header) for header in headers)
        raise DataError(f"the list of samples {str(path)!r} must begin with the line {known}")
    for number, line in enumerate(lines, start=1):
        if len(line) != len(header) or line[2] not in SPLITS:
            raise DataError(f"sample {number} of {str(path)!r} must be {', '.join(header)}; got {line!r}")
    return tuple(SampleRow(*line) for line in lines)


def _header(target: TargetKind) -> tuple[str, str, str, str]:
    return ("name", TARGET_COLUMNS[target], "split", "digest")
