"""How a run tells whoever started it how it goes."""

from typing import Protocol

from megavit.config.recipe import Recipe
from megavit.data.dataset import LabeledImages
from megavit.train.history import EpochRecord


class Reporter(Protocol):
    """Is called from the run's own thread, in the order in which things happen; it decides nothing."""

    def say(self, text: str) -> None:
        """Take a line for a person."""
        ...

    def progress(self, what: str, done: int, total: int) -> None:
        """Take note of `done` of `total` parts of `what`; the last call has both equal."""
        ...

    def data(self, dataset: LabeledImages) -> None:
        """Take note that the images have been read."""
        ...

    def plan(self, recipe: Recipe, steps: int, parameters: int) -> None:
        """Take note that training begins, or resumes; with a time budget, `steps` is what is expected now."""
        ...

    def step(self, step: int, steps: int, loss: float) -> None:
        """Take note of an optimizer step; of `steps` in all, which change with a time budget but for the last step."""
        ...

    def epoch(self, record: EpochRecord) -> None:
        """Take note of a validation."""
        ...


class NullReporter:
    """A reporter that takes note of nothing; a base for those that take note of a few things."""

    def say(self, text: str) -> None: ...

    def progress(self, what: str, done: int, total: int) -> None: ...

    def data(self, dataset: LabeledImages) -> None: ...

    def plan(self, recipe: Recipe, steps: int, parameters: int) -> None: ...

    def step(self, step: int, steps: int, loss: float) -> None: ...

    def epoch(self, record: EpochRecord) -> None: ...
