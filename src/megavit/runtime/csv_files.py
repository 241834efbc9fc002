"""Read and write CSV files safely: no cell is a spreadsheet formula, and the length of rows is limited.

Spreadsheet programs take cells that begin with =, +, -, @, a tab or a carriage return for formulas. An apostrophe is
written before such cells, and before those that already have one (OWASP, CSV injection); `unescape_row` removes it.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, Literal, Protocol

from megavit.errors import DataError

MAX_ROW_LENGTH = 2**20
"""Maximum number of characters in a row; a row of 4,096 numbers takes 50,000."""

_UTF_32 = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_FORMULA_STARTS = frozenset("'=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class TableError(DataError):
    """An error for a file that is not CSV or has overlong rows; the message begins with the line number."""


class EncodingError(TableError):
    """An error for a text in another encoding; `likely` is what that may be, as iconv names it."""

    def __init__(self, message: str, likely: str) -> None:
        super().__init__(message)
        self.likely = likely


class RowWriter(Protocol):
    """The type of the writer that `csv.writer` returns."""

    def writerow(self, row: Iterable[Any], /) -> Any: ...


class CsvWriter:
    """A writer of CSV rows whose text cells are never formulas, to a file opened with newline=""."""

    def __init__(self, file: IO[str], quoting: Literal[0, 1] = csv.QUOTE_MINIMAL) -> None:
        self._rows: RowWriter = csv.writer(file, quoting=quoting, lineterminator="\n")

    def writerow(self, row: Iterable[object]) -> None:
        self._rows.writerow([_escape(cell) if isinstance(cell, str) else cell for cell in row])


def csv_text(header: Iterable[str], rows: Iterable[Iterable[object]]) -> bytes:
    """Return a CSV file with all cells quoted, as UTF-8 with surrogate escapes."""
    text = io.StringIO(newline="")
    # All cells are quoted because Python before 3.13 does not quote carriage returns.
    table = CsvWriter(text, csv.QUOTE_ALL)
    table.writerow(header)
    for row in rows:
        table.writerow(row)
    return text.getvalue().encode("utf-8", "surrogateescape")


def unescape_row(row: Sequence[str]) -> list[str]:
    """Return the cells of a row as they were before `CsvWriter` wrote them."""
    return [cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell for cell in row]


def find_encoding(start: bytes) -> str:
    """Return the encoding of a text by its byte order mark: UTF-16, or UTF-8 with or without one.

    Args:
        start: its first 8 bytes.

    Raises:
        EncodingError: if it is UTF-32, or UTF-16 without a byte order mark.
    """
    if start.startswith(_UTF_32):
        raise EncodingError("line 1: UTF-32 text instead of UTF-8", "UTF-32")
    if start.startswith(_UTF_16):
        return "utf-16"
    for zeros, likely in ((start[1::2], "UTF-16LE"), (start[::2], "UTF-16BE")):
        if zeros == b"\0\0\0\0":
            raise EncodingError("line 1: UTF-16 text without a byte order mark", likely)
    return "utf-8-sig"


def read_csv(
    file: IO[bytes], delimiter: str = ",", *, encoding: str = "utf-8-sig", errors: str = "strict", spaces: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and cells of each row, header first; for a row of several lines, the number of the last.

    Args:
        file: file at its beginning, with or without a byte order mark.
        encoding: "utf-8-sig" or "utf-16", as `find_encoding` returns it.
        errors: as in `bytes.decode`.
        spaces: whether spaces after a delimiter are skipped.

    Raises:
        TableError: if quotation marks are invalid, or a row is longer than `MAX_ROW_LENGTH`.
        EncodingError: if the file has another encoding.
    """
    lines = _Lines(io.TextIOWrapper(file, encoding, errors, newline=""))
    rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=spaces, strict=True)
    try:
        for row in rows:
            lines.size = 0
            yield lines.number, row
    except csv.Error as error:
        raise TableError(f"line {lines.number}: {error}; check the quotation marks") from error
    except UnicodeDecodeError as error:
        if encoding == "utf-16":
            raise TableError(f"line {lines.number + 1} or later: damaged UTF-16 text") from error
        raise _encoding_error(file) from error
    finally:
        if not file.closed:
            lines.text.detach()


class _Lines:
    """The lines of a text, with `size`, the number of characters read since it was last set to 0."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self.text = text
        self.number = 0
        self.size = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self.text.readline(MAX_ROW_LENGTH + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self.size += len(line)
        if self.size > MAX_ROW_LENGTH:
            raise TableError(
                f"line {self.number}: the row has more than {MAX_ROW_LENGTH:,} characters; a table has one short row "
                "per image, so this is another kind of file, or a quotation mark is not closed"
            )
        return line


def _encoding_error(file: IO[bytes]) -> EncodingError:
    """Return an error with the first line that is not UTF-8, as it would read in the encoding of Windows programs."""
    file.seek(0)
    number = 1
    while line := file.readline(MAX_ROW_LENGTH):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            start = max(0, error.start - 20)
            text = line[start : start + 40].decode("cp1252", "replace").strip()
            return EncodingError(
                f"line {number}: not UTF-8 text. In Windows-1252, as older Windows programs write, it has {text!r}",
                "CP1252",
            )
        number += 1
    return EncodingError("not UTF-8 text", "CP1252")


def _escape(cell: str) -> str:
    if cell[:1] in _FORMULA_STARTS and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell
