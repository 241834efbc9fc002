"""What a folder or a table offers, before any image has been opened."""

from dataclasses import dataclass
from pathlib import Path

from megavit.config.target import TargetKind
from megavit.data.samples import Skipped


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be an image.

    Attributes:
        name: relative to the data's root.
        target: name of its class; of several labels, their sorted names; or its score.
        split: None where the data does not say.
    """

    name: str
    target: str | tuple[str, ...] | float
    split: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """Of its class or labels; none for a score."""
        match self.target:
            case str() as label:
                return (label,)
            case tuple() as labels:
                return labels
            case _:
                return ()


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything found below `root`; `classes` (or labels) are sorted and may be empty of images; scores have none."""

    root: Path
    classes: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]
    target: TargetKind = "classes"
