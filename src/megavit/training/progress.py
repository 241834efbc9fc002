"""Interface through which a run reports its progress."""

from typing import Protocol

from megavit.config.recipe import Recipe
from megavit.data.dataset import LabeledImages
from megavit.training.history import EpochRecord


class Reporter(Protocol):
    """A receiver of a run's events, called in order from the run's own thread."""

    def say(self, text: str) -> None:
        """Report a message for the user."""
        ...

    def progress(self, what: str, done: int, total: int) -> None:
        """Report that `done` of `total` items of `what` are done; both are equal in the last call."""
        ...

    def data(self, dataset: LabeledImages) -> None:
        """Report that the images have been read."""
        ...

    def plan(self, recipe: Recipe, steps: int, parameters: int) -> None:
        """Report that training begins or resumes; with a time budget, `steps` is the current estimate."""
        ...

    def step(self, step: int, steps: int, loss: float) -> None:
        """Report an optimizer step; with a time budget, the total `steps` is an estimate until the last step."""
        ...

    def epoch(self, record: EpochRecord) -> None:
        """Report a validation."""
        ...


class NullReporter:
    """A reporter that ignores all events, also a base class for reporters of a few events."""

    def say(self, text: str) -> None: ...

    def progress(self, what: str, done: int, total: int) -> None: ...

    def data(self, dataset: LabeledImages) -> None: ...

    def plan(self, recipe: Recipe, steps: int, parameters: int) -> None: ...

    def step(self, step: int, steps: int, loss: float) -> None: ...

    def epoch(self, record: EpochRecord) -> None: ...
