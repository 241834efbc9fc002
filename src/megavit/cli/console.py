"""Print results: tables and progress bars on a terminal, plain lines elsewhere, JSON for programs."""

import codecs
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleRenderable, RenderHook
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

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


class _EscapeControls(RenderHook):
    """A render hook that escapes control characters except newlines."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [
            Text(printable(renderable.plain, keep="\n"), style=renderable.style, end=renderable.end)
            if isinstance(renderable, Text)
            else renderable
            for renderable in renderables
        ]


results = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
notes = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
for console in (results, notes):
    console.push_render_hook(_EscapeControls())


def json_line(value: Any) -> str:
    """Return a value as a line of JSON; NaN and infinity raise a ValueError."""
    return json.dumps(value, allow_nan=False) + "\n"


def print_json(value: Any) -> None:
    sys.stdout.write(json_line(value))
    sys.stdout.flush()


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table whose columns, except the first, are right-aligned."""
    table = Table(title=printable(title), title_justify="left", title_style="bold", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(printable(column), justify="right" if i else "left", header_style="dim")
    for row in rows:
        table.add_row(*map(printable, row))
    results.print(table)


def show_skipped(reasons: dict[str, int]) -> None:
    """Print how many files were skipped for each reason."""
    for reason, count in reasons.items():
        notes.print(f"  {count:,} {'file' if count == 1 else 'files'} skipped: {printable(reason)}", style="yellow")


def show_notes(sentences: Sequence[str]) -> None:
    """Print notes about how the data was read."""
    for sentence in sentences:
        notes.print(f"  {printable(sentence)}", style="yellow")


def progress_bar() -> Progress:
    """Return a progress bar on standard error, which shows nothing outside a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=notes,
        transient=True,
        disable=not notes.is_terminal,
    )


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar, and yield a function that updates it with (done, total)."""
    with progress_bar() as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
