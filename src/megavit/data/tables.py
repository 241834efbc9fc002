"""Tables: a CSV file of path, label (or labels, or score) and, if wanted, split."""

import csv
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from megavit.config.target import TargetKind
from megavit.data.listing import Candidate, Listing
from megavit.data.samples import COLUMN, SPLIT_NAMES, SPLITS, Skipped
from megavit.errors import DataError

_COLUMNS = {
    "path": ("path", "image", "file", "filename"),
    "label": ("label", "class"),
    "labels": ("labels",),
    "score": ("score",),
    "split": ("split",),
}
_TARGETS: dict[str, TargetKind] = {column: target for target, column in COLUMN.items()}
_DELIMITERS = (",", ";", "\t")
_ONCE = {"labels": "list all its labels in one line"}
_EXPECTED = (
    "Expected a header with the columns path and label, and if you like split, then a line an image:\n"
    "  path,label,split\n"
    "  photos/1.jpg,cat,train\n"
    'Instead of label: labels, for any number of them ("cat|indoors"), or score, for a number'
)


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    path: str
    target: str | tuple[str, ...] | float
    split: str | None


def list_table(table: Path) -> Listing:
    """The images named by a table; none is opened, and none need be there.

    The first line names the columns: path (or image, file, filename), one of label (or class), labels and
    score, and, if wanted, split (`SPLIT_NAMES`, in any case). Columns are parted by commas, semicolons or tabs,
    labels by "|" (or ";" where it parts no columns), the text is UTF-8, and paths are relative to the table's folder.

    Raises:
        DataError: naming the line, where the table is not such, or says two things of one image.
    """
    text = _text(table)
    delimiter, columns = _header(table, text)
    column = next(name for name in _TARGETS if name in columns)
    first: dict[str, _Line] = {}
    candidates: list[Candidate] = []
    skipped: list[Skipped] = []
    for line in _lines(table, text, delimiter, columns):
        name = PurePath(line.path).as_posix()
        before = first.setdefault(name, line)
        if before is line:
            candidates.append(Candidate(name, line.target, line.split))
        elif (before.target, before.split) == (line.target, line.split):
            skipped.append(Skipped(name, "listed twice"))
        else:
            differ = before.target != line.target
            what, one, other = (column, before.target, line.target) if differ else ("split", before.split, line.split)
            raise DataError(
                f"{str(table)!r} lists {name!r} in line {before.number} with the {what} {one!r} and in line "
                f"{line.number} with {other!r}: {_ONCE.get(what, f'an image has one {what}')}; remove one of the lines"
            )
    if not candidates:
        raise DataError(f"{str(table)!r} names no images. {_EXPECTED}")
    classes = tuple(sorted({name for candidate in candidates for name in candidate.names}))
    return Listing(table.parent, classes, tuple(candidates), tuple(skipped), _TARGETS[column])


def column_of(table: Path, column: str) -> dict[str, str]:
    """Another column of the table: what it says of each image, by the image's name; "" where it says nothing.

    Raises:
        DataError: where the table has no such column, or says two things of one image.
    """
    text = _text(table)
    delimiter, columns = _header(table, text)
    rows = _rows(table, text, delimiter)
    _, names = next(rows)
    names = [name.strip() for name in names]
    # As it is written, else in other capitals.
    places = [place for place, name in enumerate(names) if name == column] or [
        place for place, name in enumerate(names) if name.lower() == column.strip().lower()
    ]
    if len(places) != 1:
        others = [name for place, name in enumerate(names) if place not in columns.values()]
        has = f"it has {', '.join(map(repr, others))} besides" if others else "and no other than path and answer"
        found = "more than one column" if places else "no column"
        raise DataError(f"{str(table)!r} has {found} {column!r}; {has}")
    values: dict[str, str] = {}
    for number, row in rows:
        name, value = PurePath(row[columns["path"]]).as_posix(), row[places[0]].strip()
        if values.setdefault(name, value) != value:
            raise DataError(
                f"{str(table)!r}, line {number}: {column} of {name!r} is {value!r}, and before it was "
                f"{values[name]!r}; keep one of the lines"
            )
    return values


def _lines(table: Path, text: str, delimiter: str, columns: dict[str, int]) -> Iterator[_Line]:
    rows = _rows(table, text, delimiter)
    next(rows)
    for number, row in rows:
        yield _line(table, number, {column: row[place] for column, place in columns.items()}, delimiter)


def _rows(table: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Every line with its number, the header first; each has as many columns."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        header = next(rows)
        yield rows.line_num, header
        for row in rows:
            if row and len(row) != len(header):
                raise DataError(
                    f"{str(table)!r}, line {rows.line_num}: expected {len(header)} columns as in the header, "
                    f"got {len(row)}"
                )
            if row:
                yield rows.line_num, row
    except csv.Error as error:
        raise DataError(f"{str(table)!r}, line {rows.line_num}: {error}; check the quotation marks") from error


def _line(table: Path, number: int, values: dict[str, str], delimiter: str) -> _Line:
    path = values["path"]
    empty = "path" if not path.strip() else "label" if not values.get("label", "given").strip() else None
    if empty:
        raise DataError(f"{str(table)!r}, line {number}: the {empty} is empty")
    target: str | tuple[str, ...] | float
    if "labels" in values:
        parts = re.split(r"\|" if delimiter == ";" else r"[|;]", values["labels"])
        target = tuple(sorted({part.strip() for part in parts if part.strip()}))
    elif "score" in values:
        target = _score(table, number, values["score"])
    else:
        target = values["label"].strip()
    split = None
    if "split" in values:
        split = SPLIT_NAMES.get(values["split"].strip().lower())
        if split is None:
            raise DataError(
                f"{str(table)!r}, line {number}: split must be one of {', '.join(SPLITS)}; got {values['split']!r}"
            )
    return _Line(number, path, target, split)


def _score(table: Path, number: int, text: str) -> float:
    try:
        score = float(text.replace("_", "?"))  # Python would read 1_000, nobody else does
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise DataError(f"{str(table)!r}, line {number}: score must be a finite number such as 3.5, got {text!r}")
    return score


def _text(table: Path) -> str:
    try:
        data = table.read_bytes()
    except OSError as error:
        raise DataError(f"the table {str(table)!r} cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{str(table)!r}, line {number}: not UTF-8 text; save the table as CSV UTF-8") from error


def _header(table: Path, text: str) -> tuple[str, dict[str, int]]:
    """The delimiter under which the first line names a path and a target, and where each column is."""
    first = text.split("\n", 1)[0].rstrip("\r")
    for delimiter in _DELIMITERS:
        names = [name.strip().strip('"').lower() for name in first.split(delimiter)]
        places = {
            column: [place for place, name in enumerate(names) if name in known] for column, known in _COLUMNS.items()
        }
        targets = [column for column in _TARGETS if places[column]]
        if places["path"] and len(targets) > 1:
            raise DataError(
                f"{str(table)!r} has the columns {' and '.join(targets)}: keep one of label, labels and score, which "
                "says what is to be learnt"
            )
        if places["path"] and targets:
            for column, found in places.items():
                if len(found) > 1:
                    raise DataError(f"{str(table)!r} has more than one column for the {column}: {first!r}")
            return delimiter, {column: found[0] for column, found in places.items() if found}
    raise DataError(f"{str(table)!r} begins with {first[:80]!r}. {_EXPECTED}")
