"""The clock of a run, and its budget: how far each step brings the run towards its end.

A run's `progress` in [0, 1] is what learning rate, weight averaging and the end of training follow. With
an `EpochBudget` it is a function of the step alone, so that a run that was killed resumes to the same bits. With a
`TimeBudget` each step advances it by one part of the steps that still fit: at whatever speed the machine runs from now
on, the schedule is complete, its learning rate down to zero, when the time is up.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import mean, median

from megavit.config.checks import check_integer, check_positive, check_range
from megavit.errors import ConfigError

# Validation comes after an epoch, but at most so often a run; and at least so often, where epochs are long.
MAX_VALIDATIONS, MIN_VALIDATIONS = 20, 4
# With a time budget it takes at most this share of the time besides.
VALIDATION_SHARE = 0.05
# The current speed: the mean of the steps of the last seconds, but of so many steps at least and at most. A stall
# counts as so many steps of the usual length: it is over, and says little of the steps to come.
RECENT_SECONDS, MIN_RECENT, MAX_RECENT = 3.0, 5, 100
STALL_FACTOR = 10.0
# Where steps have become slower than measured, so may have all that comes after them; up to so many times.
MAX_SLOWDOWN = 3.0
# A run that a long pause left with no time at all still lowers its learning rate in a few steps, within this share of
# the time.
LAST_STEPS, OVERTIME_SHARE = 20, 0.02
# Steps of equal parts do not always add up to a whole.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Clock:
    """The seconds of a run, without the pauses between a stop and its resumption.

    Attributes:
        started: the time of `now` at which the run would have begun without pauses.
        now: the current time in seconds.
    """

    started: float = field(default_factory=time.monotonic)
    now: Callable[[], float] = time.monotonic

    @property
    def elapsed(self) -> float:
        return self.now() - self.started

    def after(self, seconds: float) -> "Clock":
        """Return a clock that has `seconds` more behind it, those of before a stop."""
        return replace(self, started=self.started - seconds)


@dataclass(frozen=True)
class StepProgress:
    """The part of a run that one step is.

    Attributes:
        before, after: progress in [0, 1]; the run is over where `after` is 1.
        steps: of the whole run; with a time budget, as expected now.
    """

    before: float
    after: float
    steps: int

    @property
    def middle(self) -> float:
        """Where the step's learning rate is taken: neither the first nor the last step's is zero."""
        return (self.before + self.after) / 2

    def is_validation_due(self, validated: float, min_gap: float, epoch_ended: bool) -> bool:
        """Return whether to validate after the step: at the end of the run, of an epoch, or of a quarter of the run.

        Args:
            validated: progress at the last validation, 0 before the first.
            min_gap: smallest progress between two validations, but for the last one.
            epoch_ended: the step is the last one of an epoch.
        """
        gap = self.after - validated + ROUNDING
        return self.after >= 1 or (gap >= min_gap and (epoch_ended or gap >= 1 / MIN_VALIDATIONS))


class EpochBudget:
    """A given number of steps."""

    min_validation_gap = 1 / MAX_VALIDATIONS

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def next_step(self, step: int, progress: float, elapsed: float) -> StepProgress:
        """Return the progress of the step after `step` steps; `progress` and `elapsed` do not matter."""
        return StepProgress(step / self.steps, (step + 1) / self.steps, self.steps)

    def record_step(self, seconds: float) -> None: ...

    def record_validation(self, seconds: float) -> None: ...


@dataclass(frozen=True, kw_only=True)
class TimeBudgetPlan:
    """The seconds of a run with a time budget, as expected before its first step.

    Attributes:
        total: for the whole command, pauses left out.
        step: of one step.
        validation: of one pass over the validation images.
        final_passes: such passes after the last step, of validation and test images.
        finish: all else after the last step: reading the test images and writing bundle and report.
    """

    total: float
    step: float
    validation: float
    final_passes: float
    finish: float

    def __post_init__(self) -> None:
        check_positive("total", self.total)
        check_positive("step", self.step)
        for name in ("validation", "final_passes", "finish"):
            check_range(name, getattr(self, name), 0, float("inf"))


class TimeBudget:
    """As many steps as fit into the time.

    A slow spell, or a pause within a step, makes the steps after it count for more: progress never jumps and
    never goes back.
    """

    def __init__(self, plan: TimeBudgetPlan) -> None:
        self.plan = plan
        self.validation = plan.validation
        self.step = plan.step
        self.recent: deque[float] = deque(maxlen=MAX_RECENT)

    @property
    def min_validation_gap(self) -> float:
        """The smallest progress between two validations."""
        return max(1 / MAX_VALIDATIONS, self.validation / (VALIDATION_SHARE * self.plan.total))

    def seconds_left(self, elapsed: float) -> float:
        """Return the seconds left for training after `elapsed` of the command; negative if they do not suffice."""
        slowdown = min(max(1.0, self.step / self.plan.step), MAX_SLOWDOWN)
        return self.plan.total - elapsed - self.plan.finish * slowdown - self.plan.final_passes * self.validation

    def next_step(self, step: int, progress: float, elapsed: float) -> StepProgress:
        """Return the next step's, after `step` steps that brought the run to `progress` in `elapsed` seconds."""
        fitting = max(1, int(self.seconds_left(elapsed) / self.step + 0.5))
        largest = max(1 / LAST_STEPS, self.step / (OVERTIME_SHARE * self.plan.total))
        advance = min((1 - progress) / fitting, largest)
        after = progress + advance
        return StepProgress(progress, 1.0 if after > 1 - ROUNDING else after, step + round((1 - progress) / advance))

    def record_step(self, seconds: float) -> None:
        """Take note of how long the last step took, waiting for its images included."""
        self.recent.append(seconds)
        while len(self.recent) > MIN_RECENT and sum(self.recent) > RECENT_SECONDS:
            self.recent.popleft()
        stall = STALL_FACTOR * median(self.recent)
        self.step = mean(min(step, stall) for step in self.recent)

    def record_validation(self, seconds: float) -> None:
        """Take note of how long the last validation took: those after the last step will take as long."""
        self.validation = seconds


Budget = EpochBudget | TimeBudget


@dataclass(frozen=True, kw_only=True)
class RunLength:
    """How long a run is: so many steps, or as many as fit into a time budget.

    Attributes:
        steps: in all; None with a time budget.
        time: the time budget; None where the steps are given.
    """

    steps: int | None
    time: TimeBudgetPlan | None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.time is None):
            raise ConfigError(f"a run has either steps or a time budget, got steps {self.steps} and time {self.time}")
        if self.steps is not None:
            check_integer("steps", self.steps, minimum=1)

    def make_budget(self) -> Budget:
        return TimeBudget(self.time) if self.time is not None else EpochBudget(self.steps or 1)
