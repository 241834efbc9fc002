"""What a set of labelled images is once it has been read: names, labels and splits, but no pixels."""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import torch

from megavit.data.decode import decode
from megavit.errors import DataError, OutputError

SPLITS = ("train", "val", "test")

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""What folders and tables may call a split, in lower case, and what we call it."""

_HEADER = ("name", "label", "split", "digest")


@dataclass(frozen=True, slots=True)
class Sample:
    """One readable image.

    Attributes:
        name: its path relative to the data's root, with "/", or its id in a demo set.
        label: index into the classes.
        split: "train", "val" or "test".
        height, width: pixels, upright.
        channels: 1 where it is stored as grey, 3 for colour, or as many as an array or a TIFF has.
        digest: of the file's bytes (BLAKE2b, 8 bytes, in hex); equal for identical files.
    """

    name: str
    label: int
    split: str
    height: int
    width: int
    channels: int
    digest: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """One file or folder that was found and not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """A set of images with one label each.

    Attributes:
        source: what the user asked for.
        root: the folder that names are relative to; None where the images are in `memory`.
        classes: names in the order of the labels.
        samples: every readable image, sorted by name.
        skipped: what was found and not used.
        division: a sentence on how the images were split.
        memory: name to uint8 (C, H, W), for sets that are not files.
    """

    source: str
    root: Path | None
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    skipped: tuple[Skipped, ...]
    division: str
    memory: Mapping[str, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)

    def of(self, split: str) -> tuple[Sample, ...]:
        """The samples of "train", "val" or "test"."""
        return tuple(sample for sample in self.samples if sample.split == split)

    def counts(self) -> dict[str, dict[str, int]]:
        """Images by split and class; every split and every class is there, if only with 0."""
        found = Counter((sample.split, sample.label) for sample in self.samples)
        return {split: {name: found[split, label] for label, name in enumerate(self.classes)} for split in SPLITS}

    def skipped_by_reason(self) -> dict[str, int]:
        """How many were skipped for each reason, the most frequent first."""
        return dict(Counter(skipped.reason for skipped in self.skipped).most_common())

    def fingerprint(self) -> str:
        """32 hex digits that change with any image's bytes, name, label or split, and with nothing else."""
        whole = blake2b(digest_size=16)
        for sample in sorted(self.samples, key=lambda sample: sample.name):
            row = (sample.name, self.classes[sample.label], sample.split, sample.digest)
            whole.update(json.dumps(row).encode("ascii"))
        return whole.hexdigest()

    def pixels(self, sample: Sample, need: tuple[int, int] | None = None) -> torch.Tensor:
        """uint8 (C, H, W) of a sample, as `decode` gives it; `need` is the (height, width) to be made of it.

        Raises:
            ImageError: where its file cannot be read any more.
        """
        return self.memory[sample.name] if self.root is None else decode(self.root / sample.name, need)


def digest(data: bytes) -> str:
    """The `Sample.digest` of a file's bytes."""
    return blake2b(data, digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table written by `write_samples`; `label` is the class's name."""

    name: str
    label: str
    split: str
    digest: str


def write_samples(path: Path, samples: Sequence[Sample], classes: Sequence[str]) -> None:
    """Write a CSV of name, label (the class's name), split and digest.

    Names that are not text are written as the bytes they are, so that any file name survives.

    Raises:
        OutputError: where `path` cannot be written.
    """
    text = io.StringIO(newline="")
    # Everything in quotes: Python before 3.13 leaves a carriage return bare, and would read two lines.
    table = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    table.writerow(_HEADER)
    table.writerows((sample.name, classes[sample.label], sample.split, sample.digest) for sample in samples)
    try:
        path.write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise OutputError(f"the list of samples cannot be written to {str(path)!r}: {error.strerror}") from error


def read_samples(path: Path) -> tuple[Row, ...]:
    """The lines of a table written by `write_samples`.

    Raises:
        DataError: where it cannot be read, or is not such a table.
    """
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise DataError(f"the list of samples {str(path)!r} cannot be read: {error.strerror}") from error
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise DataError(f"the list of samples {str(path)!r} is damaged: {error}") from error
    if not lines or tuple(lines[0]) != _HEADER:
        raise DataError(f"the list of samples {str(path)!r} must begin with the line {','.join(_HEADER)}")
    for number, line in enumerate(lines[1:], start=1):
        if len(line) != len(_HEADER) or line[2] not in SPLITS:
            raise DataError(f"sample {number} of {str(path)!r} must be {', '.join(_HEADER)}; got {line!r}")
    return tuple(Row(*line) for line in lines[1:])
