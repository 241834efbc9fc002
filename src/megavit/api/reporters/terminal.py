"""Show the progress of a run on a terminal: a bar, and lines about the run, on standard error."""

import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, ConsoleRenderable, RenderHook
from rich.text import Text

from megavit.api.reporters.text import describe_data, describe_epoch, describe_plan, list_classes, list_skipped
from megavit.config.names import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from megavit.config.recipe import Recipe
    from megavit.data.dataset import LabeledImages
    from megavit.training.history import EpochRecord

SECONDS_BETWEEN_EPOCHS = 2.0
"""Minimum seconds between two lines about epochs."""

# A run continues if its terminal or pipe is closed, for which rich would exit.
_IGNORE_CLOSED = suppress(OSError, SystemExit)


class _EscapeControls(RenderHook):
    """A render hook that escapes control characters except newlines."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [
            Text(printable(renderable.plain, keep="\n"), style=renderable.style, end=renderable.end)
            if isinstance(renderable, Text)
            else renderable
            for renderable in renderables
        ]


def make_console(*, stderr: bool) -> Console:
    """Return a console for text as it is, without markup, whose control characters are escaped."""
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)
    console.push_render_hook(_EscapeControls())
    return console


def progress_bar(console: Console) -> "Progress":
    """Return a progress bar that shows nothing outside a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class TerminalReporter:
    """A reporter that writes a progress bar and lines about the run to standard error."""

    def __init__(self) -> None:
        self._console = make_console(stderr=True)
        self._bar = progress_bar(self._console)
        self._tasks: dict[str, TaskID] = {}
        self._epoch_printed_at = 0.0
        self._last = False

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _IGNORE_CLOSED:
            self._bar.stop()

    def say(self, text: str) -> None:
        self._print(text, style="dim")

    def progress(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total)
        self._bar.update(self._tasks[what], completed=done, total=total, visible=done < total)

    def data(self, dataset: "LabeledImages") -> None:
        self._print(describe_data(dataset))
        if dataset.classes:
            self._print(list_classes(dataset), style="dim")
        for note in dataset.notes:
            self._print(f"  {printable(note)}", style="yellow")
        for line in list_skipped(dataset.skipped_by_reason()):
            self._print(line, style="yellow")

    def plan(self, recipe: "Recipe", steps: int, parameters: int) -> None:
        self._print(describe_plan(recipe, steps, parameters))

    def step(self, step: int, steps: int, loss: float) -> None:
        self._last = step == steps
        self.progress("training", step, steps)

    def epoch(self, record: "EpochRecord") -> None:
        if not self._last and time.monotonic() - self._epoch_printed_at < SECONDS_BETWEEN_EPOCHS:
            return
        self._epoch_printed_at = time.monotonic()
        self._print(describe_epoch(record))

    def _print(self, text: str, style: str = "") -> None:
        with _IGNORE_CLOSED:
            self._console.print(text, style=style)
