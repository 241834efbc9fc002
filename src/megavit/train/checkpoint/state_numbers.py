"""The numbers of a run between two steps, as a checkpoint has them: none is believed that cannot be."""

from dataclasses import dataclass, field
from typing import Any

from megavit.config.checks import check_range, check_whole
from megavit.config.serialization import from_dict
from megavit.errors import BundleError, ConfigError
from megavit.train.history import EpochRecord
from megavit.train.spike_detection import WINDOW, SpikeDetector

_MOST_STEPS = 10**12
_COUNTS = ("step", "skipped", "skipped_in_a_row", "loss_steps", "rollbacks", "rollback_step", "dropped_batches")


@dataclass(frozen=True, kw_only=True)
class StateNumbers:
    """All of a `megavit.train.state.TrainState` but its tensors, under the same names.

    Checkpoints of version 0.1 lack `rollbacks`, `rollback_step`, `dropped_batches` and `spike_detector`.
    """

    step: int
    progress: float
    validated: float
    skipped: int
    skipped_in_a_row: int
    loss_sum: float
    loss_steps: int
    seconds: float
    best_epoch: int | None
    history: list[EpochRecord]
    rollbacks: int = 0
    rollback_step: int = 0
    dropped_batches: int = 0
    spike_detector: SpikeDetector = field(default_factory=SpikeDetector)

    def __post_init__(self) -> None:
        for name in _COUNTS:
            check_whole(name, getattr(self, name), minimum=0)
        check_range("step", self.step, 0, _MOST_STEPS)
        check_range("dropped_batches", self.dropped_batches, 0, _MOST_STEPS)
        check_range("progress", self.progress, 0, 1)
        check_range("validated", self.validated, 0, self.progress)
        check_range("seconds", self.seconds, 0, float("inf"))
        check_range("rollback_step", self.rollback_step, 0, self.step)
        check_range("skipped", self.skipped, 0, self.step)
        check_range("skipped_in_a_row", self.skipped_in_a_row, 0, self.skipped)
        check_range("loss_steps", self.loss_steps, 0, self.step)
        steps = [epoch.step for epoch in self.history]
        if steps != sorted(steps) or not all(0 < step <= self.step for step in steps):
            raise ConfigError(f"history must be of ascending steps from 1 to {self.step}, got {steps[:5]}")
        if any(epoch.val_metric > 1 for epoch in self.history):
            raise ConfigError("history must be of metrics of at most 1")
        if self.history:
            check_whole("best_epoch", self.best_epoch, minimum=0)
            check_range("best_epoch", self.best_epoch, 0, len(self.history) - 1)
        elif self.best_epoch is not None:
            raise ConfigError(f"best_epoch must be none where there is no history, got {self.best_epoch}")
        if max(len(self.spike_detector.losses), len(self.spike_detector.norms)) > WINDOW:
            raise ConfigError(f"spike_detector must be of {WINDOW} steps at most")
        for name in ("outliers", "high_losses"):
            check_whole(f"spike_detector.{name}", getattr(self.spike_detector, name), minimum=0)


def parse_numbers(table: dict[str, Any], where: str, step: int) -> StateNumbers:
    """Return the numbers in the manifest of a checkpoint that is called after this step.

    Raises:
        BundleError: naming every one that is missing, unknown, or cannot be.
    """
    try:
        numbers = from_dict(StateNumbers, table, where)
    except ConfigError as error:
        raise BundleError(str(error)) from None
    if numbers.step != step:
        raise BundleError(f"{where} cannot be used: it is of step {numbers.step:,}, and is called after step {step:,}")
    return numbers
