"""How a run tells whoever started it how it goes; it decides nothing."""

from typing import Protocol

from megavit.config.recipe import Recipe
from megavit.data.dataset import LabeledImages
from megavit.train.history import EpochRecord


class Reporter(Protocol):
    """Called from the run's own thread, in the order in which things happen."""

    def say(self, text: str) -> None:
        """A line for a person."""
        ...

    def progress(self, what: str, done: int, total: int) -> None:
        """`done` of `total` parts of `what`; the last call has both equal."""
        ...

    def data(self, images: LabeledImages) -> None:
        """The images have been read."""
        ...

    def plan(self, recipe: Recipe, steps: int, parameters: int) -> None:
        """Training begins, or goes on; by the clock, `steps` is what is expected now."""
        ...

    def step(self, step: int, steps: int, loss: float) -> None:
        """An optimizer step has ended, of `steps` in all; by the clock these change, and are equal at the end."""
        ...

    def epoch(self, record: EpochRecord) -> None:
        """The model was validated."""
        ...


class NullReporter:
    """A watch that says nothing."""

    def say(self, text: str) -> None: ...

    def progress(self, what: str, done: int, total: int) -> None: ...

    def data(self, images: LabeledImages) -> None: ...

    def plan(self, recipe: Recipe, steps: int, parameters: int) -> None: ...

    def step(self, step: int, steps: int, loss: float) -> None: ...

    def epoch(self, record: EpochRecord) -> None: ...
