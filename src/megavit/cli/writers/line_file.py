"""Write files line by line, so that no result is lost."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from megavit.cli.console import json_line
from megavit.errors import OutputError
from megavit.runtime.csv_files import CsvWriter
from megavit.runtime.storage import writing


class LineFile:
    """A new .csv or .jsonl file, which is removed at the end if it has no lines, unless `keep_empty`.

    `what` is its content, for error messages, and `columns` the header of a .csv file.
    """

    def __init__(self, path: Path, what: str, columns: Sequence[Any], *, keep_empty: bool = False) -> None:
        self.path, self.what, self.columns = path, what, columns
        self.is_csv = path.suffix == ".csv"
        self._keep = keep_empty

    def __enter__(self) -> Self:
        with writing(self.what, self.path):
            try:
                self._file = self.path.open("x", buffering=1, encoding="utf-8", errors="surrogateescape", newline="")
            except FileExistsError:
                raise OutputError(f"{self.path} already exists: move it or choose another name") from None
        if self.is_csv:
            self._table = CsvWriter(self._file)
            try:
                with writing(self.what, self.path):
                    self._table.writerow(self.columns)
            except OutputError:
                with contextlib.suppress(OSError):
                    self._file.close()
                self.path.unlink(missing_ok=True)
                raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with writing(self.what, self.path):
                self._file.close()
        finally:
            if not self._keep:
                self.path.unlink(missing_ok=True)

    def write(self, line: Sequence[Any] | dict[str, Any]) -> None:
        """Write a row of a .csv file, or an object of a .jsonl file.

        Raises:
            OutputError: if it cannot be written.
        """
        with writing(self.what, self.path):
            if self.is_csv:
                self._table.writerow(line)
            else:
                self._file.write(json_line(line))
            self._keep = True


def check_new_file(path: Path, what: str, suffixes: Sequence[str]) -> None:
    """Raise an OutputError unless a new file with this name can be written."""
    if path.suffix not in suffixes:
        raise OutputError(f"{what} are written as {' or '.join(suffixes)}, not as {path.name!r}")
    if path.exists():
        raise OutputError(f"{path} already exists: move it or choose another name")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise OutputError(f"there is no folder {folder}: create it or choose another")
