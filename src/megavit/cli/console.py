"""How results look: tables and bars on a terminal, plain lines elsewhere, JSON for machines."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleRenderable, RenderHook
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from megavit.config.names import printable as printable

if TYPE_CHECKING:
    from megavit.evaluate.metrics.bootstrap import Interval

# File names are any bytes; what a terminal cannot show is shown by number.
for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


class _Harmless(RenderHook):
    """Shows what a terminal would act on by its number, whatever text it comes in; lines stay lines."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [
            Text(printable(one.plain, keep="\n"), style=one.style, end=one.end) if isinstance(one, Text) else one
            for one in renderables
        ]


results = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
notes = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
for console in (results, notes):
    console.push_render_hook(_Harmless())


def json_line(value: Any) -> str:
    """Return a value as a line of JSON, which has no word for NaN and infinity; they are refused before."""
    return json.dumps(value, allow_nan=False) + "\n"


def print_json(value: Any) -> None:
    sys.stdout.write(json_line(value))
    sys.stdout.flush()


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Numbers, in every column but the first, stand right."""
    table = Table(title=printable(title), title_justify="left", title_style="bold", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(printable(column), justify="right" if i else "left", header_style="dim")
    for row in rows:
        table.add_row(*map(printable, row))
    results.print(table)


def show_skipped(reasons: dict[str, int]) -> None:
    """How many files were not used, and why."""
    for reason, count in reasons.items():
        notes.print(f"  {count:,} {'file' if count == 1 else 'files'} skipped: {printable(reason)}", style="yellow")


def show_notes(sentences: Sequence[str]) -> None:
    """What a person should know of how the data was read."""
    for sentence in sentences:
        notes.print(f"  {printable(sentence)}", style="yellow")


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
