"""Detection of spikes: a gradient, or a loss, far from what was usual in the steps just before.

"Usual" is a median, and "far" is measured in median absolute deviations, which a few outliers hardly move. Both limits
are wide: an ordinary run must never reach them. A spike in the gradient concerns one step, which is skipped; one in the
loss is a run that has diverged, although its gradients are clipped, and that is rolled back (PaLM, arXiv 2204.02311,
section 5.1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

# Steps that are looked back on, and how many of them there must be before anything is judged.
WINDOW, MIN_STEPS = 128, 64
# A gradient is an outlier beyond so many standard deviations of the logarithm of its norm, so many times the median,
# and so many times the largest of the window.
NORM_DEVIATIONS, TIMES_USUAL, TIMES_LARGEST = 10.0, 10.0, 2.0
# More outliers than that one after another are the usual size from now on.
MAX_OUTLIERS_IN_A_ROW = 5
# A loss is high beyond so many standard deviations above the usual, this share of the usual, and where this share of
# all that was learned since the first steps is lost.
LOSS_DEVIATIONS, SHARE_OF_USUAL, SHARE_LOST = 6.0, 0.5, 0.5
# A run has diverged when its loss is high for so many steps in a row.
PATIENCE = 30
# Of a normal distribution, the standard deviation in median absolute deviations.
MAD_TO_STD = 1.4826


@dataclass
class SpikeDetector:
    """The last steps of a run, by which the next is judged; plain JSON types.

    Attributes:
        losses, norms: of the last steps that were as usual, `WINDOW` at most; the norm is of the unclipped gradient.
        first: the usual loss of the first steps; None as long as these are not over.
        kind: how the images of those steps were made; losses of another kind cannot be compared.
        outliers: steps in a row, up to the last one, whose gradient was an outlier.
        high_losses: steps in a row, up to the last one, whose loss was high.
    """

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    first: float | None = None
    kind: list[bool] = field(default_factory=list)
    outliers: int = 0
    high_losses: int = 0

    @property
    def diverged(self) -> bool:
        return self.high_losses >= PATIENCE

    def update(self, loss: float, norm: float, kind: Sequence[bool] = ()) -> bool:
        """Judge a step by those before it, and remember it; return whether the step is to be skipped.

        Args:
            loss, norm: finite, the same in every process.
            kind: what distinguishes how its images were made from those of other steps.
        """
        if list(kind) != self.kind:
            self.losses, self.norms, self.kind = [], [], list(kind)
            self.outliers = self.high_losses = 0
        if is_norm_outlier(norm, self.norms):
            self.outliers += 1
            if self.outliers <= MAX_OUTLIERS_IN_A_ROW:
                return True
        else:
            self.outliers = 0
        self.norms = [*self.norms[1 - WINDOW :], norm]
        if is_loss_high(loss, self.losses, self.first):
            self.high_losses += 1
        else:
            self.high_losses = 0
            self.losses = [*self.losses[1 - WINDOW :], loss]
        if self.first is None and len(self.losses) == MIN_STEPS:
            self.first = median(self.losses)
        return False


def is_norm_outlier(norm: float, norms: Sequence[float]) -> bool:
    """Return whether a gradient's norm is an outlier among those before it."""
    logs = [math.log(previous) for previous in norms if previous > 0]
    if norm <= 0 or len(logs) < MIN_STEPS:
        return False
    usual = median(logs)
    limit = max(
        usual + NORM_DEVIATIONS * robust_std(logs, usual),
        usual + math.log(TIMES_USUAL),
        max(logs) + math.log(TIMES_LARGEST),
    )
    return math.log(norm) > limit


def is_loss_high(loss: float, losses: Sequence[float], first: float | None) -> bool:
    """Return whether a loss is far above those before it, in a run that began at `first`."""
    if first is None or len(losses) < MIN_STEPS:
        return False
    usual = median(losses)
    limit = max(LOSS_DEVIATIONS * robust_std(losses, usual), SHARE_OF_USUAL * usual, SHARE_LOST * (first - usual))
    return loss > usual + limit


def robust_std(values: Sequence[float], center: float) -> float:
    """Return the standard deviation as estimated by the median distance from the median, `center`."""
    return MAD_TO_STD * median([abs(value - center) for value in values])
