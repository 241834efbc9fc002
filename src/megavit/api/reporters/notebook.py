"""Show the progress of a run below the cell of a notebook."""

import time
from html import escape
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from megavit.api.reporters.text import describe_data, describe_epoch, describe_plan, list_classes, list_skipped
from megavit.config.names import printable

if TYPE_CHECKING:
    from megavit.config.recipe import Recipe
    from megavit.data.dataset import LabeledImages
    from megavit.training.history import EpochRecord

SECONDS_BETWEEN_UPDATES = 0.25
"""Minimum seconds between two updates of the bar, which are messages to the browser."""


class NotebookReporter:
    """A reporter that shows lines about the run, the latest validation, and a bar while there is something to wait for.

    The cell's output is updated in place, and what is saved with the notebook is the last state, without a bar.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._epoch = ""
        self._bar: tuple[str, int, int] | None = None
        self._shown_at = 0.0
        self._output: Any = None  # from the first line on

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar = None
        self._show()

    def say(self, text: str) -> None:
        self._add(text)

    def progress(self, what: str, done: int, total: int) -> None:
        self._bar = (what, done, total) if done < total else None
        if self._bar is None or time.monotonic() - self._shown_at >= SECONDS_BETWEEN_UPDATES:
            self._show()

    def data(self, dataset: "LabeledImages") -> None:
        classes = [list_classes(dataset)] if dataset.classes else []
        notes = [f"  {printable(note)}" for note in dataset.notes]
        self._add(describe_data(dataset), *classes, *notes, *list_skipped(dataset.skipped_by_reason()))

    def plan(self, recipe: "Recipe", steps: int, parameters: int) -> None:
        self._add(describe_plan(recipe, steps, parameters))

    def step(self, step: int, steps: int, loss: float) -> None:
        self.progress("training", step, steps)

    def epoch(self, record: "EpochRecord") -> None:
        self._epoch = describe_epoch(record)
        self._show()

    def _add(self, *lines: str) -> None:
        if self._epoch:  # what came before stays above
            self._lines.append(self._epoch)
            self._epoch = ""
        self._lines += lines
        self._show()

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        content = self._render()
        if self._output is not None:
            self._output.update(content, raw=True)
        elif any(content.values()):
            self._output = import_module("IPython.display").display(content, raw=True, display_id=True)

    def _render(self) -> dict[str, str]:
        text = "\n".join(printable(line, keep="\n") for line in [*self._lines, self._epoch] if line)
        html = f'<pre style="white-space: pre-wrap; margin: 0">{escape(text)}</pre>' if text else ""
        if self._bar is not None:
            what, done, total = self._bar
            html += f'<progress value="{done}" max="{total}"></progress> {escape(what)} {done:,}/{total:,}'
        return {"text/plain": text, "text/html": html}
