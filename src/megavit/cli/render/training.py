"""A training run on the terminal."""

import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from rich.progress import TaskID

from megavit.cli.console import notes, progress_bar, show_notes, show_skipped
from megavit.config.names import abbreviate
from megavit.config.recipe import Recipe
from megavit.data.dataset import LabeledImages
from megavit.train.history import EpochRecord

# Between two lines about epochs, so that quick ones do not flood.
SECONDS_BETWEEN_EPOCHS = 2.0

# A run must not end because nobody reads on: the terminal is gone, or a pipe, for which rich would exit.
UNHEARD = suppress(OSError, SystemExit)


class TerminalWatch:
    """Writes to standard error: a bar on a terminal, and lines of what happened."""

    def __init__(self) -> None:
        self._bar = progress_bar()
        self._tasks: dict[str, TaskID] = {}
        self._epoch_told_at = 0.0
        self._last = False

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with UNHEARD:
            self._bar.stop()

    def say(self, text: str) -> None:
        with UNHEARD:
            notes.print(text, style="dim")

    def progress(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total)
        self._bar.update(self._tasks[what], completed=done, total=total, visible=done < total)

    def data(self, dataset: LabeledImages) -> None:
        counts = dataset.split_sizes()
        with UNHEARD:
            notes.print(
                f"{len(dataset.samples):,} images {_described(dataset)}: {counts['train']:,} to train, "
                f"{counts['val']:,} to validate, {counts['test']:,} to test"
            )
            if dataset.classes:
                notes.print(f"  {abbreviate(dataset.classes)}", style="dim")
            show_notes(dataset.notes)
            show_skipped(dataset.skipped_by_reason())

    def plan(self, recipe: Recipe, steps: int, parameters: int) -> None:
        about = "" if recipe.run.epochs else "about "
        size = f"{recipe.model.image_size} px in patches of {recipe.model.patch_size}"
        if recipe.data.keep_aspect:
            size += ", aspect kept"
        with UNHEARD:
            notes.print(
                f"model {recipe.model.preset}: {parameters:,} parameters, {size}; "
                f"{about}{steps:,} steps of {recipe.run.batch_size} images in {recipe.run.precision}"
            )

    def step(self, step: int, steps: int, loss: float) -> None:
        self._last = step == steps
        self.progress("training", step, steps)

    def epoch(self, record: EpochRecord) -> None:
        if not self._last and time.monotonic() - self._epoch_told_at < SECONDS_BETWEEN_EPOCHS:
            return
        self._epoch_told_at = time.monotonic()
        loss = "  none" if record.train_loss is None else f"{record.train_loss:.3f}"
        with UNHEARD:
            notes.print(
                f"epoch {record.epoch:>5g}  {record.seconds:6.1f} s  loss {loss}  "
                f"validation {record.metric} {record.val_metric:{'.3f' if record.metric == 'R²' else '.1%'}}"
            )


def _described(images: LabeledImages) -> str:
    match images.target:
        case "classification":
            return f"of {len(images.classes)} classes"
        case "multilabel":
            return f"with {len(images.classes)} labels, any number an image"
        case "regression":
            scores = [sample.value for sample in images.samples]
            return f"with scores from {min(scores):.4g} to {max(scores):.4g}"
