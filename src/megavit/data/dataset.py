"""Labeled images: names, targets and splits, but no pixels."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from json.encoder import encode_basestring_ascii as quoted
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch

from megavit.config.recipe import OnCorrupt
from megavit.config.target import TargetKind, join_labels
from megavit.data.byte_range import ByteRange, content_digest
from megavit.data.decode.image_file import read_file_with_stamp
from megavit.data.decode.tensor import decode
from megavit.data.replacement import Replacements
from megavit.data.split.split_names import SPLITS
from megavit.data.targets import TargetValue as TargetValue
from megavit.data.targets import name_target
from megavit.errors import DataError, ImageError, OutputError
from megavit.runtime.csv_files import TableError, csv_text, read_csv, restored

T = TypeVar("T")
_ROWS = 4096  # that are hashed at a time

TARGET_COLUMNS: dict[TargetKind, str] = {"classification": "label", "multilabel": "labels", "regression": "score"}
"""Of a table, for each kind of target."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One readable image.

    Attributes:
        name: its path relative to the data's root, with "/", or its id in a demo set.
        target: index into the classes, a sorted tuple of such, or a float for regression.
        split: "train", "val" or "test".
        height, width: pixels, upright.
        channels: 1 where it is stored as gray, 3 for color, or as many as an array or a TIFF has.
        digest: of the file's bytes (BLAKE2b, 8 bytes, in hex); equal for identical files.
        location: where its bytes are, in a shard; None for a file of its own.
        stamp: of a file of its own, when it was read first (`megavit.data.decode.image_file.read_file_with_stamp`).
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
        """The index of the class; a TypeError for multilabel and regression targets."""
        if not isinstance(self.target, int):
            raise TypeError(f"{self.name!r} has no single class: its target is {self.target!r}")
        return self.target

    @property
    def labels(self) -> tuple[int, ...]:
        """The indices of the labels; a TypeError for targets of another kind."""
        if not isinstance(self.target, tuple):
            raise TypeError(f"{self.name!r} has no labels: its target is {self.target!r}")
        return self.target

    @property
    def value(self) -> float:
        """The number to predict; a TypeError for targets of another kind."""
        if not isinstance(self.target, float):
            raise TypeError(f"{self.name!r} has no value: its target is {self.target!r}")
        return self.target


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder that was found and not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class LabeledImages:
    """A set of images, each with its target.

    Attributes:
        source: what the user asked for.
        root: the folder that names are relative to, or that shards are in; None for images in `memory` or at a URL.
        classes: names of the classes, or labels, in the order of their indices; none for regression.
        samples: every readable image, sorted by name.
        skipped: what was found and not used.
        split_description: a sentence on how the images were split.
        memory: name to uint8 (C, H, W), for sets that are not files.
        target: kind of every target.
        on_corrupt: what to do where the bytes in a shard are damaged: "skip" or "fail", as of `DataRecipe`.
        notes: sentences on how it was read that the person whose data it is should see.
    """

    source: str
    root: Path | None
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    skipped: tuple[Skipped, ...]
    split_description: str
    memory: Mapping[str, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)
    target: TargetKind = "classification"
    on_corrupt: OnCorrupt = "skip"
    notes: tuple[str, ...] = field(default=(), compare=False)
    _made: dict[Callable[..., Any], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def compute_once(self, make: Callable[["LabeledImages"], T]) -> T:
        """Return what a function makes of these images, which it is asked for once: they do not change."""
        if make not in self._made:
            self._made[make] = make(self)
        return self._made[make]

    def in_split(self, split: str) -> tuple[Sample, ...]:
        """Return the samples of "train", "val" or "test"."""
        return tuple(sample for sample in self.samples if sample.split == split)

    def split_sizes(self) -> dict[str, int]:
        """Return the number of images by split; every split is there, if only with 0."""
        found = Counter(sample.split for sample in self.samples)
        return {split: found[split] for split in SPLITS}

    def class_counts(self) -> dict[str, dict[str, int]]:
        """Return the number of images by split and class, or label; every one is there, if only with 0."""
        found: Counter[tuple[str, int]] = Counter()
        for (split, target), images in Counter((sample.split, sample.target) for sample in self.samples).items():
            labels = () if isinstance(target, float) else target if isinstance(target, tuple) else (target,)
            found.update({(split, label): images for label in labels})
        return {split: {name: found[split, label] for label, name in enumerate(self.classes)} for split in SPLITS}

    def skipped_by_reason(self) -> dict[str, int]:
        """Return how many were skipped for each reason, the most frequent first."""
        return dict(Counter(skipped.reason for skipped in self.skipped).most_common())

    def fingerprint(self) -> str:
        """Return 32 hex digits that change with any image's bytes, name, target or split, and nothing else."""
        return self.compute_once(_fingerprint)

    def load_pixels(self, sample: Sample, need: tuple[int, int] | None = None) -> torch.Tensor:
        """Return uint8 (C, H, W) of a sample, as `decode` gives it; `need` is the (height, width) to be made of it.

        Raises:
            DataError: naming its file, where it cannot be read any more, or is not what it was.
        """
        if sample.location is None and self.root is None:
            return self.memory[sample.name]
        try:
            return decode(self._content(sample) if sample.location is None else self.read_or_replace(sample)[1], need)
        except ImageError as error:
            raise self.unreadable_error(sample, error.reason) from error

    def _content(self, sample: Sample) -> bytes:
        """Return the bytes of a sample's own file, which are those that were scanned."""
        assert self.root is not None
        data, stamp = read_file_with_stamp(self.root / sample.name)
        # Hashing costs up to a tenth of decoding; what the system says of an untouched file is enough.
        if (stamp is None or stamp != sample.stamp) and content_digest(data) != sample.digest:
            raise DataError(
                f"{sample.name!r} of {self.source!r} is not what it was when the run began: its bytes have changed. "
                "Put it back as it was, or start again"
            )
        return data

    def unreadable_error(self, sample: Sample, reason: str) -> DataError:
        """Return the error for a sample that could be read when the data was scanned, and cannot any more."""
        return DataError(
            f"{sample.name!r} of {self.source!r} could be read before and cannot any more: {reason}. "
            "Restore it, or start again without it"
        )

    def read_or_replace(self, sample: Sample) -> tuple[Sample, bytes, Skipped | None]:
        """Return a sample of a shard, its bytes, and None; or those of its replacement, and what was damaged.

        Raises:
            ImageError: where its bytes are damaged and nothing may stand for it.
            DataError: where the shard cannot be reached.
        """
        assert sample.location is not None
        try:
            return sample, sample.location.read(), None
        except ImageError as error:
            reason = error.reason
        if self.on_corrupt == "skip":
            for other in (self.samples[index] for index in self.compute_once(_replacements).candidates(sample)):
                if other.location is not None:
                    with suppress(ImageError):
                        return other, other.location.read(), Skipped(sample.name, reason)
        raise ImageError(reason)


def _replacements(images: LabeledImages) -> Replacements:
    return Replacements(images.samples)


def _fingerprint(images: LabeledImages) -> str:
    """Hash (name, target, split, digest) of each sample, as JSON; a million take about a second."""
    whole = blake2b(digest_size=16)
    targets = {
        target: json.dumps(name_target(target, images.classes)) for target in {one.target for one in images.samples}
    }
    rows: list[str] = []
    for sample in sorted(images.samples, key=attrgetter("name")):
        # Of scores 0.0 and -0.0 are the same key.
        target = repr(sample.target) if isinstance(sample.target, float) else targets[sample.target]
        name, digest = quoted(sample.name), quoted(sample.digest)
        rows.append(f'[{name}, {target}, "{sample.split}", {digest}]')
        if len(rows) == _ROWS:
            whole.update("".join(rows).encode("ascii"))
            rows.clear()
    whole.update("".join(rows).encode("ascii"))
    return whole.hexdigest()


@dataclass(frozen=True, slots=True)
class SampleRow:
    """A line of a table written by `write_samples`; its target is written with names, or a number."""

    name: str
    target: str
    split: str
    digest: str


def write_samples(
    path: Path, samples: Sequence[Sample], classes: Sequence[str], target: TargetKind = "classification"
) -> None:
    """Write the CSV of `samples_csv`.

    Raises:
        OutputError: where `path` cannot be written.
    """
    try:
        path.write_bytes(samples_csv(samples, classes, target))
    except OSError as error:
        raise OutputError(f"the list of samples cannot be written to {str(path)!r}: {error.strerror}") from error


def samples_csv(samples: Sequence[Sample], classes: Sequence[str], target: TargetKind = "classification") -> bytes:
    """Return a CSV of name, target, split and digest of each sample.

    Names that are not text are written as the bytes they are, so that any file name survives.
    """
    rows = (
        (
            sample.name,
            join_labels(named) if isinstance(named := name_target(sample.target, classes), tuple) else named,
            sample.split,
            sample.digest,
        )
        for sample in samples
    )
    return csv_text(_header(target), rows)


def read_samples(path: Path) -> tuple[SampleRow, ...]:
    """Read a table written by `write_samples`.

    Raises:
        DataError: where it cannot be read, or is not such a table.
    """
    headers = [_header(target) for target in get_args(TargetKind)]
    try:
        with path.open("rb") as file:
            rows = read_csv(file, errors="surrogateescape")
            header = next(rows, (0, []))[1]
            lines = [restored(line) for _, line in rows]
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
