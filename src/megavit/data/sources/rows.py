"""Collect rows of image, target and split into a listing, whichever table or Python object they come from."""

from collections.abc import Iterable
from dataclasses import dataclass

from megavit.data.dataset import MemoryImage, Skipped
from megavit.data.scan import Candidate
from megavit.data.sources.path_resolver import PathResolver
from megavit.data.targets import NamedTarget
from megavit.errors import DataError, ImageError

LISTED_TWICE = "listed twice"

_CONFLICT_HINTS = {"labels": "list all its labels in one line"}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table with the path of an image, or the image itself under the name that it shall have."""

    number: int
    path: str
    target: NamedTarget
    split: str | None
    image: MemoryImage | ImageError | None = None


class RowCollector:
    """A collector of rows into candidates, each image once.

    Attributes:
        first: first row of each image, by its name.

    Args:
        source: name of the data, for errors.
        names: finder of files below the data's root.
        column: name of the target's column, for errors.
        unit: name of a row, such as "line".
    """

    def __init__(self, source: str, names: PathResolver, column: str, unit: str = "line") -> None:
        self.candidates: list[Candidate] = []
        self.skipped: list[Skipped] = []
        self.memory: dict[str, MemoryImage | ImageError] = {}
        self._source, self._names, self._column, self._unit = source, names, column, unit
        self.first: dict[str, Row] = {}

    def add_all(self, rows: Iterable[Row]) -> None:
        """Add rows, or raise a DataError if two contradict each other on an image."""
        for row in rows:
            name = row.path if row.image is not None else self._names.find(row.path)
            earlier = self.first.setdefault(name, row)
            if earlier is row:
                self.candidates.append(Candidate(name, row.target, row.split))
                if row.image is not None:
                    self.memory[name] = row.image
            elif (earlier.target, earlier.split) == (row.target, row.split):
                self.skipped.append(Skipped(name, LISTED_TWICE))
            else:
                raise self._conflict(name, earlier, row)

    def _conflict(self, name: str, earlier: Row, row: Row) -> DataError:
        is_target = earlier.target != row.target
        what, first, second = (
            (self._column, earlier.target, row.target) if is_target else ("split", earlier.split, row.split)
        )
        hint = _CONFLICT_HINTS.get(what, f"an image has one {what}")
        return DataError(
            f"{self._source!r} lists {name!r} in {self._unit} {earlier.number} with the {what} {first!r} and in "
            f"{self._unit} {row.number} with {second!r}: {hint}; remove one of the {self._unit}s"
        )
