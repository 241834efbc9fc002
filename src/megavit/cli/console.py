"""Print results: tables and progress bars on a terminal, plain lines elsewhere, JSON for programs."""

import codecs
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from megavit.api.reporters.terminal import make_console, progress_bar
from megavit.api.reporters.text import list_skipped
from megavit.config.names import printable

_SIMPLER = {"×": "x", "–": "-", "…": "...", "²": "2", "³": "3", "√": "sqrt", "·": ".", "│": "|"}


def _replace_unprintable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return simpler characters for those that a terminal's encoding lacks, or their code points."""
    assert isinstance(error, UnicodeEncodeError)
    first = error.object[error.start]
    if first in _SIMPLER:
        return _SIMPLER[first], error.start + 1
    return codecs.backslashreplace_errors(error)


codecs.register_error("megavit.simpler", _replace_unprintable)
# File names may contain bytes that are not text, and Windows' terminals have few characters.
for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="megavit.simpler")


results = make_console(stderr=False)
notes = make_console(stderr=True)


def json_line(value: Any) -> str:
    """Return a value as a line of JSON; NaN and infinity raise a ValueError."""
    return json.dumps(value, allow_nan=False) + "\n"


def print_json(value: Any) -> None:
    sys.stdout.write(json_line(value))
    sys.stdout.flush()


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table whose columns, except the first, are right-aligned."""
    from rich.table import Table

    table = Table(title=printable(title), title_justify="left", title_style="bold", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(printable(column), justify="right" if i else "left", header_style="dim")
    for row in rows:
        table.add_row(*map(printable, row))
    results.print(table)


def show_skipped(reasons: dict[str, int]) -> None:
    """Print how many files were skipped for each reason."""
    for line in list_skipped(reasons):
        notes.print(line, style="yellow")


def show_notes(sentences: Sequence[str]) -> None:
    """Print notes about how the data was read."""
    for sentence in sentences:
        notes.print(f"  {printable(sentence)}", style="yellow")


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar, and yield a function that updates it with (done, total)."""
    with progress_bar(notes) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
