"""Open tables: find their encoding, delimiter and columns, and read their rows."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from megavit.config.names import shell_quote
from megavit.config.recipe import DataRecipe
from megavit.data.sources.table_columns import EXPECTED, Header, find_header
from megavit.errors import DataError
from megavit.runtime.csv_files import (
    MAX_ROW_LENGTH,
    EncodingError,
    TableError,
    find_encoding,
    read_csv,
    unescape_row,
)

_SPREADSHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\x1f\x8b")


@dataclass(frozen=True, slots=True)
class OpenTable:
    """A table that is open behind its header.

    Attributes:
        separators: characters that separate labels.
        rows: line number and cells of each row that is not empty.
    """

    path: Path
    header: Header
    separators: str
    rows: Iterator[tuple[int, list[str]]]


@contextmanager
def open_table(table: Path, recipe: DataRecipe) -> Iterator[OpenTable]:
    """Open a table, and add its name to errors in a line.

    Raises:
        DataError: if it is no table, or its encoding or columns cannot be told.
    """
    try:
        with table.open("rb") as file:
            encoding = _find_encoding(table, file)
            delimiter, header, header_line = _read_header(table, file, encoding, recipe)
            file.seek(0)
            rows = _rows(read_csv(file, delimiter, encoding=encoding, spaces=True), header, header_line)
            yield OpenTable(table, header, "|" if delimiter == ";" else "|;", rows)
    except EncodingError as error:
        converted = table.with_stem(f"{table.stem}-utf8")
        raise DataError(
            f"{str(table)!r}, {error}. Save the table as CSV UTF-8, or if it is {error.likely} convert it: "
            f"iconv -f {error.likely} -t UTF-8 {shell_quote(str(table))} > {shell_quote(str(converted))}"
        ) from error
    except TableError as error:
        raise DataError(f"{str(table)!r}, {error}") from error
    except OSError as error:
        raise DataError(f"the table {str(table)!r} cannot be read: {error.strerror}") from error


def _find_encoding(table: Path, file: BinaryIO) -> str:
    start = file.read(8)
    if start.startswith(_SPREADSHEETS):
        raise DataError(f"{str(table)!r} is a spreadsheet or a compressed file, not text: save it as CSV UTF-8")
    file.seek(0)
    return find_encoding(start)


def _read_header(table: Path, file: BinaryIO, encoding: str, recipe: DataRecipe) -> tuple[str, Header, int]:
    text = io.TextIOWrapper(file, encoding, "replace", newline="")
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
    return *find_header(table, first.rstrip("\r\n"), recipe, declared), number


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
