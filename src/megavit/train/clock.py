"""How far a run is: `progress` in [0, 1], which the learning rate, the average and the end of training follow.

By epochs it is a function of the step alone, so that a run that was killed goes on to the same bits. By the
clock, each step advances it by one part of the steps that still fit: at whatever speed the machine runs from
now on, the run is whole, its rate down to zero, when its time is up.
"""

from collections import deque
from dataclasses import dataclass
from statistics import mean, median

from megavit.config.checks import check_positive, check_range
from megavit.errors import ConfigError

# Validation comes after an epoch, but at most so often a run; and at least so often, where epochs are long.
MOST_VALIDATIONS, LEAST_VALIDATIONS = 20, 4
# By the clock it takes at most this share of the time besides.
VALIDATION_SHARE = 0.05
# The speed of now: the mean of the steps of the last seconds, but of so many steps at least and at most. A stall
# counts as so many steps of the usual length: it is over, and says little of the steps to come.
RECENT_SECONDS, LEAST_RECENT, MOST_RECENT = 3.0, 5, 100
STALL = 10.0
# Where steps have become slower than measured, so may have all that comes after them; up to so many times.
MOST_SLOWDOWN = 3.0
# A run that a long pause left with no time at all still lowers its rate in a few steps, within this share of it.
LAST_STEPS, OVERTIME_SHARE = 20, 0.02
# Steps of equal parts do not always add up to a whole.
ROUNDING = 1e-9


@dataclass(frozen=True)
class StepProgress:
    """What one step is of its run.

    Attributes:
        before, after: progress in [0, 1]; the run is over where `after` is 1.
        steps: of the whole run, by the clock as expected now.
    """

    before: float
    after: float
    steps: int

    @property
    def middle(self) -> float:
        """Where the step's learning rate is taken: neither the first nor the last step's is zero."""
        return (self.before + self.after) / 2


class EpochBudget:
    """A given number of steps."""

    validation_gap = 1 / MOST_VALIDATIONS

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def stride(self, step: int, progress: float, used: float) -> StepProgress:
        """The next step, after `step` steps; `progress` and `used` seconds do not matter."""
        return StepProgress(step / self.steps, (step + 1) / self.steps, self.steps)

    def step_took(self, seconds: float) -> None: ...

    def validation_took(self, seconds: float) -> None: ...


@dataclass(frozen=True, kw_only=True)
class TimeBudgetPlan:
    """The seconds of a run by the clock, as expected before its first step.

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
        self.recent: deque[float] = deque(maxlen=MOST_RECENT)

    @property
    def validation_gap(self) -> float:
        """The progress at least between two validations."""
        return max(1 / MOST_VALIDATIONS, self.validation / (VALIDATION_SHARE * self.plan.total))

    def left(self, used: float) -> float:
        """Seconds for training when `used` of the command's are gone; below zero when they do not suffice."""
        slowdown = min(max(1.0, self.step / self.plan.step), MOST_SLOWDOWN)
        return self.plan.total - used - self.plan.finish * slowdown - self.plan.final_passes * self.validation

    def stride(self, step: int, progress: float, used: float) -> StepProgress:
        """The next step, after `step` steps that brought the run to `progress` in `used` seconds of its command."""
        fitting = max(1, int(self.left(used) / self.step + 0.5))
        most = max(1 / LAST_STEPS, self.step / (OVERTIME_SHARE * self.plan.total))
        advance = min((1 - progress) / fitting, most)
        after = progress + advance
        return StepProgress(progress, 1.0 if after > 1 - ROUNDING else after, step + round((1 - progress) / advance))

    def step_took(self, seconds: float) -> None:
        """The last step's time, that of waiting for its images included."""
        self.recent.append(seconds)
        while len(self.recent) > LEAST_RECENT and sum(self.recent) > RECENT_SECONDS:
            self.recent.popleft()
        stall = STALL * median(self.recent)
        self.step = mean(min(step, stall) for step in self.recent)

    def validation_took(self, seconds: float) -> None:
        """The last validation's time: those after the last step will take as long."""
        self.validation = seconds


Pace = EpochBudget | TimeBudget


def pace_of(steps: int | None, time: TimeBudgetPlan | None) -> Pace:
    """By the clock where `time` is given, else `steps` steps.

    Raises:
        ConfigError: when both or neither are given.
    """
    if time is not None and steps is None:
        return TimeBudget(time)
    if steps is not None and time is None:
        return EpochBudget(steps)
    raise ConfigError("a run has either a number of steps or a time")


def validation_due(stride: StepProgress, validated: float, gap: float, epoch_ended: bool) -> bool:
    """Whether to validate after a step: at the end of the run, of an epoch, or of a quarter of the run without.

    Args:
        validated: progress at the last validation, 0 before the first.
        gap: progress at least between two, but for the last.
        epoch_ended: with this step.
    """
    since = stride.after - validated + ROUNDING
    return stride.after >= 1 or (since >= gap and (epoch_ended or since >= 1 / LEAST_VALIDATIONS))
