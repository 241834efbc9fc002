"""Print the progress of a training run."""

import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from rich.progress import TaskID

from megavit.cli.console import notes, progress_bar, show_notes, show_skipped
from megavit.config.names import abbreviate
from megavit.config.recipe import Recipe
from megavit.data.dataset import LabeledImages
from megavit.training.history import EpochRecord

SECONDS_BETWEEN_EPOCHS = 2.0
"""Minimum seconds between two lines about epochs."""

# A run continues if its terminal or pipe is closed, for which rich would exit.
_IGNORE_CLOSED = suppress(OSError, SystemExit)


class TerminalReporter:
    """A reporter that writes a progress bar and lines about the run to standard error."""

    def __init__(self) -> None:
        self._bar = progress_bar()
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
        with _IGNORE_CLOSED:
            notes.print(text, style="dim")

    def progress(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total)
        self._bar.update(self._tasks[what], completed=done, total=total, visible=done < total)

    def data(self, dataset: LabeledImages) -> None:
        counts = dataset.split_sizes()
        with _IGNORE_CLOSED:
            notes.print(
                f"{len(dataset.samples):,} images {_describe(dataset)}: {counts['train']:,} for training, "
                f"{counts['val']:,} for validation, {counts['test']:,} for test"
            )
            if dataset.classes:
                notes.print(f"  {abbreviate(dataset.classes)}", style="dim")
            show_notes(dataset.notes)
            show_skipped(dataset.skipped_by_reason())

    def plan(self, recipe: Recipe, steps: int, parameters: int) -> None:
        about = "" if recipe.run.epochs else "about "
        size = f"{recipe.model.image_size} px in patches of {recipe.model.patch_size}"
        if recipe.data.keep_aspect:
            size += ", aspect ratio kept"
        with _IGNORE_CLOSED:
            notes.print(
                f"model {recipe.model.preset}: {parameters:,} parameters, {size}; "
                f"{about}{steps:,} steps of {recipe.run.batch_size} images in {recipe.run.precision}"
            )

    def step(self, step: int, steps: int, loss: float) -> None:
        self._last = step == steps
        self.progress("training", step, steps)

    def epoch(self, record: EpochRecord) -> None:
        if not self._last and time.monotonic() - self._epoch_printed_at < SECONDS_BETWEEN_EPOCHS:
            return
        self._epoch_printed_at = time.monotonic()
        loss = "  none" if record.train_loss is None else f"{record.train_loss:.3f}"
        with _IGNORE_CLOSED:
            notes.print(
                f"epoch {record.epoch:>5g}  {record.seconds:6.1f} s  loss {loss}  "
                f"validation {record.metric} {record.val_metric:{'.3f' if record.metric == 'R²' else '.1%'}}"
            )


def _describe(images: LabeledImages) -> str:
    match images.target:
        case "classification":
            return f"of {len(images.classes)} classes"
        case "multilabel":
            return f"with {len(images.classes)} labels, any number per image"
        case "regression":
            values = [sample.value for sample in images.samples]
            return f"with values from {min(values):.4g} to {max(values):.4g}"
