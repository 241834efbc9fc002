"""Detect spikes: gradients or losses far from those of the preceding steps.

"Far" is measured in median absolute deviations from the median, with limits that ordinary runs never reach. A step with
a gradient spike is skipped. A lasting loss spike means divergence, and the run is rolled back (PaLM, arXiv 2204.02311,
section 5.1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

# Number of previous steps to compare with, and the minimum for any comparison.
WINDOW, MIN_STEPS = 128, 64
# A gradient is an outlier if its norm exceeds all limits: in standard deviations of the log norm, as a multiple of the
# median, and as a multiple of the window's maximum.
NORM_DEVIATIONS, NORM_TIMES_MEDIAN, NORM_TIMES_MAX = 10.0, 10.0, 2.0
# After more consecutive outliers than this, their size is accepted as normal.
MAX_OUTLIERS_IN_A_ROW = 5
# A loss is high if its excess over the median exceeds all limits: in standard deviations, as a share of the median, and
# as a share of the decrease since the first steps.
LOSS_DEVIATIONS, LOSS_SHARE_OF_MEDIAN, LOSS_SHARE_OF_DECREASE = 6.0, 0.5, 0.5
# A run has diverged if its loss is high for this many consecutive steps.
PATIENCE = 30
# Ratio of standard deviation to median absolute deviation of a normal distribution.
MAD_TO_STD = 1.4826


@dataclass
class SpikeDetector:
    """A detector of spikes in loss and gradient norm, made of plain JSON types.

    Attributes:
        losses: losses of the last steps that were not high, at most `WINDOW`.
        norms: unclipped gradient norms of the last steps, at most `WINDOW`.
        first: median loss of the first steps; None until there are `MIN_STEPS`.
        kind: flags of how those steps' images were made; losses of different kinds are not comparable.
        outliers: number of consecutive steps, up to the last, with an outlier gradient.
        high_losses: number of consecutive steps, up to the last, with a high loss.
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
        """Record a step's finite loss and gradient norm, and return whether it is to be skipped.

        Arguments agree between processes. A change of `kind`, how the step's images were made, resets the detector.
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
    """Return whether a gradient norm is an outlier relative to the previous norms."""
    logs = [math.log(previous) for previous in norms if previous > 0]
    if norm <= 0 or len(logs) < MIN_STEPS:
        return False
    center = median(logs)
    limit = max(
        center + NORM_DEVIATIONS * robust_std(logs, center),
        center + math.log(NORM_TIMES_MEDIAN),
        max(logs) + math.log(NORM_TIMES_MAX),
    )
    return math.log(norm) > limit


def is_loss_high(loss: float, losses: Sequence[float], first: float | None) -> bool:
    """Return whether a loss is far above the previous losses, in a run whose first losses were about `first`."""
    if first is None or len(losses) < MIN_STEPS:
        return False
    center = median(losses)
    limit = max(
        LOSS_DEVIATIONS * robust_std(losses, center),
        LOSS_SHARE_OF_MEDIAN * center,
        LOSS_SHARE_OF_DECREASE * (first - center),
    )
    return loss > center + limit


def robust_std(values: Sequence[float], center: float) -> float:
    """Return the standard deviation estimated from the median absolute deviation from `center`, the median."""
    return MAD_TO_STD * median([abs(value - center) for value in values])
