"""What a folder, a table or a set of shards offers, before any image has been opened."""

from dataclasses import dataclass
from pathlib import Path

from megavit.config.target import TargetKind
from megavit.data.byte_range import ByteRange
from megavit.data.dataset import Skipped


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be an image.

    Attributes:
        name: relative to the data's root.
        target: name of its class; of several labels, their sorted names; or its score.
        split: None where the data does not say.
        location: where its bytes are, in a shard; None for a file of its own.
    """

    name: str
    target: str | tuple[str, ...] | float
    split: str | None
    location: ByteRange | None = None

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
    """Everything found below `root`; `classes` (or labels) may be empty of images; scores have none.

    `root` is None where the data is at a URL; `notes` are sentences for a person on how it was read.
    """

    root: Path | None
    classes: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]
    target: TargetKind = "classification"
    notes: tuple[str, ...] = ()
