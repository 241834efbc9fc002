"""How results look: tables and bars on a terminal, plain lines elsewhere, JSON for machines."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from megavit.evaluate.intervals import Interval

# File names are any bytes; what a terminal cannot show is shown by number.
for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")

results = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
notes = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def printable(name: str) -> str:
    """A file name in which a newline or an escape sequence does not write to the terminal for itself."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


def json_line(value: Any) -> str:
    """Return a value as a line of JSON, which has no word for NaN and infinity; they are refused before."""
    return json.dumps(value, allow_nan=False) + "\n"


def print_json(value: Any) -> None:
    sys.stdout.write(json_line(value))
    sys.stdout.flush()


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Numbers, in every column but the first, stand right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", header_style="dim")
    for row in rows:
        table.add_row(*row)
    results.print(table)


def show_skipped(reasons: dict[str, int]) -> None:
    """How many files were not used, and why."""
    for reason, count in reasons.items():
        notes.print(f"  {count:,} {'file' if count == 1 else 'files'} skipped: {reason}", style="yellow")


def share(interval: "Interval") -> str:
    """A share with its 95% interval, in per cent."""
    return f"{interval.value:.1%} (95%: {interval.low:.1%} to {interval.high:.1%})"


def progress_bar() -> Progress:
    """On standard error, so that results can be piped; nothing where that is no terminal."""
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
    """A bar to be told (done, total)."""
    with progress_bar() as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
