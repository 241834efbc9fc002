"""Tables: a CSV file of path, label and, if wanted, split."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from megavit.data.listing import Candidate, Listing
from megavit.data.samples import SPLIT_NAMES, SPLITS, Skipped
from megavit.errors import DataError

_COLUMNS = {
    "path": ("path", "image", "file", "filename"),
    "label": ("label", "class"),
    "split": ("split",),
}
_DELIMITERS = (",", ";", "\t")
_EXPECTED = (
    "Expected a header with the columns path and label, and if you like split, then a line an image:\n"
    "  path,label,split\n"
    "  photos/1.jpg,cat,train"
)


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    path: str
    label: str
    split: str | None


def list_table(table: Path) -> Listing:
    """The images named by a table; none is opened, and none need be there.

    The first line names the columns: path (or image, file, filename), label (or class) and, if wanted,
    split (`SPLIT_NAMES`, in any case). Columns are parted by commas, semicolons or tabs, the text is UTF-8,
    and paths are relative to the table's folder.

    Raises:
        DataError: naming the line, where the table is not such, or says two things of one image.
    """
    first: dict[str, _Line] = {}
    candidates: list[Candidate] = []
    skipped: list[Skipped] = []
    for line in _lines(table):
        name = PurePath(line.path).as_posix()
        before = first.setdefault(name, line)
        if before is line:
            candidates.append(Candidate(name, line.label, line.split))
        elif (before.label, before.split) == (line.label, line.split):
            skipped.append(Skipped(name, "listed twice"))
        else:
            what = "label" if before.label != line.label else "split"
            one, other = getattr(before, what), getattr(line, what)
            raise DataError(
                f"{str(table)!r} lists {name!r} in line {before.number} with the {what} {one!r} and in line "
                f"{line.number} with {other!r}: an image has one {what}; remove one of the lines"
            )
    if not candidates:
        raise DataError(f"{str(table)!r} names no images. {_EXPECTED}")
    classes = tuple(sorted({candidate.label for candidate in candidates}))
    return Listing(table.parent, classes, tuple(candidates), tuple(skipped))


def _lines(table: Path) -> Iterator[_Line]:
    text = _text(table)
    delimiter, columns = _header(table, text)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        width = len(next(rows))
        for row in rows:
            if not row:
                continue
            if len(row) != width:
                raise DataError(
                    f"{str(table)!r}, line {rows.line_num}: expected {width} columns as in the header, got {len(row)}"
                )
            yield _line(table, rows.line_num, {column: row[place] for column, place in columns.items()})
    except csv.Error as error:
        raise DataError(f"{str(table)!r}, line {rows.line_num}: {error}; check the quotation marks") from error


def _line(table: Path, number: int, values: dict[str, str]) -> _Line:
    path, label = values["path"], values["label"].strip()
    if not path.strip() or not label:
        raise DataError(f"{str(table)!r}, line {number}: the {'label' if path.strip() else 'path'} is empty")
    split = None
    if "split" in values:
        split = SPLIT_NAMES.get(values["split"].strip().lower())
        if split is None:
            raise DataError(
                f"{str(table)!r}, line {number}: split must be one of {', '.join(SPLITS)}; got {values['split']!r}"
            )
    return _Line(number, path, label, split)


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
    """The delimiter under which the first line names a path and a label, and where each column is."""
    first = text.split("\n", 1)[0].rstrip("\r")
    for delimiter in _DELIMITERS:
        names = [name.strip().strip('"').lower() for name in first.split(delimiter)]
        places = {
            column: [place for place, name in enumerate(names) if name in known] for column, known in _COLUMNS.items()
        }
        if places["path"] and places["label"]:
            for column, found in places.items():
                if len(found) > 1:
                    raise DataError(f"{str(table)!r} has more than one column for the {column}: {first!r}")
            return delimiter, {column: found[0] for column, found in places.items() if found}
    raise DataError(f"{str(table)!r} begins with {first[:80]!r}. {_EXPECTED}")
