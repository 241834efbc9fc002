"""Read tables of image paths, targets and splits."""

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from megavit.config.names import abbreviate, canonical
from megavit.data.dataset import Skipped
from megavit.data.scan import Candidate, Listing
from megavit.data.sources.table_cells import (
    has_separators,
    may_have_several,
    read_class,
    read_is_valid,
    read_labels,
    read_score,
    read_split,
)
from megavit.data.sources.table_columns import EXPECTED, TARGETS, Header, find_header
from megavit.data.split.split_names import parse_split
from megavit.errors import DataError
from megavit.runtime.csv_files import MAX_ROW_LENGTH, TableError, read_csv, unescape_row

LISTED_TWICE = "listed twice"
_CONFLICT_HINTS = {"labels": "list all its labels in one line"}
_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\x1f\x8b")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    path: str
    target: str | tuple[str, ...] | float
    split: str | None


@dataclass(frozen=True, slots=True)
class _Table:
    path: Path
    header: Header
    separators: str
    rows: Iterator[tuple[int, list[str]]]


def list_table(table: Path) -> Listing:
    """List the images in a table, without opening any or checking that they exist.

    The header has the columns path, one of label, labels and score, and optionally split or is_valid, or synonyms
    (`megavit.data.sources.table_columns`). Columns are separated by commas, semicolons or tabs; labels by "|", by ";"
    if columns are not, or as a Python list. The text is UTF-8. Paths are relative to the table's folder and found by
    `PathResolver`.

    Raises:
        DataError: if the table is invalid or contradicts itself on an image; the message names the line.
    """
    first: dict[str, _Line] = {}
    candidates: list[Candidate] = []
    skipped: list[Skipped] = []
    names = PathResolver(table.parent)
    with _open_table(table) as opened:
        column = opened.header.target
        for line in _parse_lines(opened):
            name = names.find(line.path)
            earlier = first.setdefault(name, line)
            if earlier is line:
                candidates.append(Candidate(name, line.target, line.split))
            elif (earlier.target, earlier.split) == (line.target, line.split):
                skipped.append(Skipped(name, LISTED_TWICE))
            else:
                is_target = earlier.target != line.target
                what, first_value, second_value = (
                    (column, earlier.target, line.target) if is_target else ("split", earlier.split, line.split)
                )
                hint = _CONFLICT_HINTS.get(what, f"an image has one {what}")
                raise DataError(
                    f"{str(table)!r} lists {name!r} in line {earlier.number} with the {what} {first_value!r} and in "
                    f"line {line.number} with {second_value!r}: {hint}; remove one of the lines"
                )
    if not candidates:
        raise DataError(f"{str(table)!r} lists no images. {EXPECTED}")
    classes = tuple(sorted({name for candidate in candidates for name in candidate.names}))
    notes = []
    if names.changed:
        notes.append(
            f"found {names.changed:,} under another form of the name in the table: Unicode, spaces, or \\ for /"
        )
    if column == "label":
        notes += _several_labels_notes(classes)
    if column == "labels" and all(len(candidate.names) == 1 for candidate in candidates):
        notes.append("every image has exactly one label: if it cannot have more, call the column label")
    return Listing(table.parent, classes, tuple(candidates), tuple(skipped), TARGETS[column], tuple(notes))


def read_column(table: Path, column: str) -> dict[str, str]:
    """Return a column's values by image name; raise a DataError if it is missing or an image has two values."""
    values: dict[str, str] = {}
    resolver = PathResolver(table.parent)
    with _open_table(table) as opened:
        header = opened.header
        names = [name.strip() for name in header.names]
        # An exact match is preferred to one that ignores case.
        indices = [index for index, name in enumerate(names) if name == column] or [
            index for index, name in enumerate(names) if name.lower() == column.strip().lower()
        ]
        if len(indices) != 1:
            others = [name for index, name in enumerate(names) if index not in header.index.values()]
            columns = (
                f"its other columns are {', '.join(map(repr, others))}" if others else "it has only path and target"
            )
            found = "more than one column" if indices else "no column"
            raise DataError(f"{str(table)!r} has {found} {column!r}; {columns}")
        for number, row in opened.rows:
            name, value = resolver.find(row[header.index["path"]]), row[indices[0]].strip()
            if values.setdefault(name, value) != value:
                raise DataError(
                    f"{str(table)!r}, line {number}: {column} of {name!r} is {value!r}, but an earlier line "
                    f"has {values[name]!r}: keep one of the lines"
                )
    return values


@contextmanager
def _open_table(table: Path) -> Iterator[_Table]:
    """Open a table after its header, and add the table's name to errors in a line."""
    try:
        with table.open("rb") as file:
            delimiter, header, header_line = _read_header(table, file)
            file.seek(0)
            rows = _rows(read_csv(file, delimiter, spaces=True), header, header_line)
            yield _Table(table, header, "|" if delimiter == ";" else "|;", rows)
    except TableError as error:
        raise DataError(f"{str(table)!r}, {error}") from error
    except OSError as error:
        raise DataError(f"the table {str(table)!r} cannot be read: {error.strerror}") from error


def _read_header(table: Path, file: BinaryIO) -> tuple[str, Header, int]:
    start = file.read(8)
    if start.startswith(_UTF_16) or start[1::2] == b"\0\0\0\0":
        raise DataError(f"{str(table)!r}, line 1: UTF-16 text instead of UTF-8: save the table as CSV UTF-8")
    if start.startswith(_SPREADSHEETS):
        raise DataError(f"{str(table)!r} is a spreadsheet or a compressed file, not text: save it as CSV UTF-8")
    file.seek(0)
    text = io.TextIOWrapper(file, "utf-8-sig", "replace", newline="")
    number, declared, first = 1, None, text.readline(MAX_ROW_LENGTH + 1)
    try:
        while first and (
            not first.strip() or ((declared := declared or _declared_delimiter(first)) and _declared_delimiter(first))
        ):
            number, first = number + 1, text.readline(MAX_ROW_LENGTH + 1)
    finally:
        text.detach()
    if len(first) > MAX_ROW_LENGTH:
        raise DataError(
            f"the first line of {str(table)!r} has more than {MAX_ROW_LENGTH:,} characters, so it is not a header. "
            f"{EXPECTED}"
        )
    return *find_header(table, first.rstrip("\r\n"), declared), number


def _declared_delimiter(line: str) -> str | None:
    """Return the delimiter in a line such as sep=; for spreadsheet programs, or None."""
    text = line.strip('\r\n "').lower()
    return text[4:] or "," if text.startswith("sep=") and len(text) <= 5 else None


def _rows(rows: Iterator[tuple[int, list[str]]], header: Header, header_line: int) -> Iterator[tuple[int, list[str]]]:
    for number, row in rows:
        if number <= header_line or not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header.names):
            raise TableError(f"line {number}: expected {len(header.names)} columns as in the header, got {len(row)}")
        yield number, unescape_row(row)


def _parse_lines(table: _Table) -> Iterator[_Line]:
    index = table.header.index
    ambiguous: tuple[int, str] | None = None
    separated = False
    splits: dict[int, set[str]] = {}  # splits in each column that may be the splits under another name
    if {"split", "is_valid"}.isdisjoint(index):
        splits = {position: set() for position in range(len(table.header.names)) if position not in index.values()}
    for number, row in table.rows:
        values = {column: row[position] for column, position in index.items()}
        try:
            yield _parse_line(number, values, table.separators)
        except DataError as error:
            raise TableError(f"line {number}: {error}") from error
        if "labels" in values:
            separated = separated or has_separators(values["labels"], table.separators)
            if ambiguous is None and may_have_several(values["labels"]):
                ambiguous = number, values["labels"].strip()
        splits = {
            position: found | {split}
            for position, found in splits.items()
            if (split := parse_split(row[position])) is not None
        }
    if ambiguous and not separated:
        number, labels = ambiguous
        raise TableError(
            f'line {number}: the labels {labels!r} may be one or several: separate several with "|", such as '
            f"{'|'.join(labels.replace(',', ' ').split()[:2])}; if an image has just one, call the column label"
        )
    split_column = next((position for position, found in splits.items() if "train" in found and len(found) > 1), None)
    if split_column is not None:
        column = table.header.names[split_column]
        raise DataError(
            f"{str(table.path)!r} has no column split, but {column!r} contains only train, val or test: rename it to "
            "split, or remove it if it means something else"
        )


def _parse_line(number: int, values: Mapping[str, str], separators: str) -> _Line:
    path = values["path"]
    if not path.strip():
        raise DataError("the path is empty")
    target: str | tuple[str, ...] | float
    if "labels" in values:
        target = read_labels(values["labels"], separators)
    elif "score" in values:
        target = read_score(values["score"])
    else:
        target = read_class(values["label"])
    split = None
    if "split" in values:
        split = read_split(values["split"])
    elif "is_valid" in values:
        split = read_is_valid(values["is_valid"])
    return _Line(number, path, target, split)


def _several_labels_notes(classes: tuple[str, ...]) -> list[str]:
    """Return a note on class names that seem to be several labels, since their parts are classes too."""
    known = set(classes)
    found = [
        name
        for name in classes
        if len(parts := [part.strip() for part in name.replace(";", ",").split(",")]) > 1 and set(parts) <= known
    ]
    if not found:
        return []
    return [
        f"class names that seem to be several labels: {abbreviate(found, 3)}; if an image may have several, call the "
        'column labels and separate them with "|"'
    ]


class PathResolver:
    r"""A finder of files below `root` whose names in a table differ from those on disk, counted in `changed`.

    Names may have another Unicode form, spaces at the ends, `\` between folders, or the leading apostrophe by which
    spreadsheets mark text.
    """

    def __init__(self, root: Path) -> None:
        self.changed = 0
        self._root = os.fspath(root)
        self._names_by_folder: dict[str, dict[str, str | None]] = {}

    def find(self, path: str) -> str:
        """Return the name on disk, with "/", or the written name if no file or several match."""
        name = PurePosixPath(path).as_posix()
        if os.path.lexists(os.path.join(self._root, name)):  # noqa: PTH118 - faster for a million files
            return name
        stripped = path.strip()
        for variant in (stripped, stripped.replace("\\", "/"), stripped.removeprefix("'")):
            found = self._found(PurePosixPath(variant).as_posix())
            if found is not None:
                self.changed += 1
                return found
        return name

    def _found(self, name: str) -> str | None:
        folder = "/" if name.startswith("/") else ""
        for part in PurePosixPath(name).parts:
            if part == "/":
                continue
            actual = part if part == ".." else self._names(folder).get(canonical(part))
            if actual is None:
                return None
            folder = actual if not folder else f"{folder.rstrip('/')}/{actual}"
        return folder or None

    def _names(self, folder: str) -> dict[str, str | None]:
        if folder not in self._names_by_folder:
            names: dict[str, str | None] = {}
            try:
                entries = os.listdir(os.path.join(self._root, folder))  # noqa: PTH118, PTH208 - faster than Path
            except OSError:
                entries = []
            for name in entries:
                key = canonical(name)
                names[key] = None if key in names else name
            self._names_by_folder[folder] = names
        return self._names_by_folder[folder]
