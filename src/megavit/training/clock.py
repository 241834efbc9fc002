"""Time and budget of a run: how far each step advances the training progress.

Progress in [0, 1] drives the learning rate and the end of training. With an `EpochBudget` it depends on the step alone,
so a resumed run is bit-identical. With a `TimeBudget` each step advances it by an equal share of the steps that still
fit, so the schedule completes on time at any machine speed.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import mean, median

from megavit.config.checks import check_integer, check_positive, check_range
from megavit.errors import ConfigError

# Validations per run: after each epoch, within these limits.
MAX_VALIDATIONS, MIN_VALIDATIONS = 20, 4
# Largest share of a time budget that validation takes.
VALIDATION_SHARE = 0.05
# The current step time is the mean over the last RECENT_SECONDS, of MIN_RECENT to MAX_RECENT steps. A stalled step
# counts as at most STALL_FACTOR median steps.
RECENT_SECONDS, MIN_RECENT, MAX_RECENT = 3.0, 5, 100
STALL_FACTOR = 10.0
# Largest factor by which a slowdown of the steps extends the expected time of the final work.
MAX_SLOWDOWN = 3.0
# A run without time left still anneals its learning rate in a few steps, within this share of the budget.
LAST_STEPS, OVERTIME_SHARE = 20, 0.02
# Tolerance for rounding when steps are summed to a progress of 1.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Clock:
    """The elapsed seconds of a run without its pauses, from `started`, the start shifted forward by the pauses."""

    started: float = field(default_factory=time.monotonic)
    now: Callable[[], float] = time.monotonic

    @property
    def elapsed(self) -> float:
        return self.now() - self.started

    def after(self, seconds: float) -> "Clock":
        """Return a clock advanced by `seconds`, the time that elapsed before a stop."""
        return replace(self, started=self.started - seconds)


@dataclass(frozen=True)
class StepProgress:
    """The interval of training progress, in [0, 1], that one of about `steps` steps covers; 1 ends the run."""

    before: float
    after: float
    steps: int

    @property
    def middle(self) -> float:
        """Progress at which the step's learning rate is taken; nonzero also for the first and the last step."""
        return (self.before + self.after) / 2

    def is_validation_due(self, validated: float, min_gap: float, epoch_ended: bool) -> bool:
        """Return whether to validate after the step: at the end of the run, of an epoch, or of a quarter of the run.

        Validations, the last of which was at progress `validated`, are at least `min_gap` apart except at the end.
        """
        gap = self.after - validated + ROUNDING
        return self.after >= 1 or (gap >= min_gap and (epoch_ended or gap >= 1 / MIN_VALIDATIONS))


class EpochBudget:
    """A budget of a fixed number of steps, the first of which comes after `first_step` steps of the run."""

    min_validation_gap = 1 / MAX_VALIDATIONS

    def __init__(self, steps: int, first_step: int = 0) -> None:
        self.steps, self.first_step = steps, first_step

    def next_step(self, step: int, progress: float, elapsed: float) -> StepProgress:
        """Return the progress interval of the step after `step` steps; the other arguments are ignored."""
        done = step - self.first_step
        return StepProgress(done / self.steps, (done + 1) / self.steps, self.first_step + self.steps)

    def record_step(self, seconds: float) -> None: ...

    def record_validation(self, seconds: float) -> None: ...


@dataclass(frozen=True, kw_only=True)
class TimeBudgetPlan:
    """The expected durations, in seconds, of a run with a time budget.

    Attributes:
        total: duration of the command, excluding pauses.
        step: duration of one step.
        validation: duration of one pass over the validation images.
        final_passes: number of such passes after the last step, over validation and test images.
        finish: remaining time after the last step: reading test images, writing bundle and report.
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
    """A budget of as many steps as fit into the time; slow steps or pauses make each later step cover more progress.

    The time counts from `first_second` of the run on.
    """

    def __init__(self, plan: TimeBudgetPlan, first_second: float = 0.0) -> None:
        self.plan, self.first_second = plan, first_second
        self.validation = plan.validation
        self.step = plan.step
        self.recent: deque[float] = deque(maxlen=MAX_RECENT)

    @property
    def min_validation_gap(self) -> float:
        """Smallest progress between two validations."""
        return max(1 / MAX_VALIDATIONS, self.validation / (VALIDATION_SHARE * self.plan.total))

    def seconds_left(self, elapsed: float) -> float:
        """Return the seconds left for training after `elapsed` seconds of the run; negative if none are left."""
        slowdown = min(max(1.0, self.step / self.plan.step), MAX_SLOWDOWN)
        elapsed -= self.first_second
        return self.plan.total - elapsed - self.plan.finish * slowdown - self.plan.final_passes * self.validation

    def next_step(self, step: int, progress: float, elapsed: float) -> StepProgress:
        """Return the progress interval of the step after `step` steps, at `progress` and `elapsed` seconds."""
        steps_left = max(1, int(self.seconds_left(elapsed) / self.step + 0.5))
        max_advance = max(1 / LAST_STEPS, self.step / (OVERTIME_SHARE * self.plan.total))
        advance = min((1 - progress) / steps_left, max_advance)
        after = progress + advance
        return StepProgress(progress, 1.0 if after > 1 - ROUNDING else after, step + round((1 - progress) / advance))

    def record_step(self, seconds: float) -> None:
        """Record the duration of the last step in seconds, including data loading."""
        self.recent.append(seconds)
        while len(self.recent) > MIN_RECENT and sum(self.recent) > RECENT_SECONDS:
            self.recent.popleft()
        stall = STALL_FACTOR * median(self.recent)
        self.step = mean(min(step, stall) for step in self.recent)

    def record_validation(self, seconds: float) -> None:
        """Record the duration of the last validation in seconds, as the estimate for the final passes."""
        self.validation = seconds


Budget = EpochBudget | TimeBudget


@dataclass(frozen=True, kw_only=True)
class RunLength:
    """The length of a run, or of its extension: either a number of steps or a time budget.

    Attributes:
        first_step: steps of the run before its extension, for which `steps` and `time` are; 0 without an extension.
        first_second: seconds of the run before its extension, excluding pauses.
    """

    steps: int | None
    time: TimeBudgetPlan | None
    first_step: int = 0
    first_second: float = 0.0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.time is None):
            raise ConfigError(f"a run has either steps or a time budget, got steps {self.steps} and time {self.time}")
        if self.steps is not None:
            check_integer("steps", self.steps, minimum=1)
        check_integer("first_step", self.first_step, minimum=0)
        check_range("first_second", self.first_second, 0, float("inf"))

    def make_budget(self) -> Budget:
        if self.time is not None:
            return TimeBudget(self.time, self.first_second)
        return EpochBudget(self.steps or 1, self.first_step)
