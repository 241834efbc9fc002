"""What a folder or a table offers, before any image has been opened."""

from dataclasses import dataclass
from pathlib import Path

from megavit.data.samples import Skipped


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be an image; `split` is None where the data does not say."""

    name: str
    label: str
    split: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything found below `root`; `classes` are sorted and may be empty of images."""

    root: Path
    classes: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]
