"""What counts as a spike: a gradient, or a loss, far from what was usual in the steps just before.

"Usual" is a median, and "far" is told in median absolute deviations, which a few outliers hardly move. Both limits are
wide: what an ordinary run does must never count. A spike in the gradient concerns one step, which is left out; one in
the loss is a run that has diverged, although its gradients are clipped, and that goes back (PaLM, arXiv 2204.02311,
section 5.1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

# Steps that are looked back on, and of which there must be so many before anything is judged.
WINDOW, LEAST = 128, 64
# A gradient is an outlier beyond so many standard deviations of the logarithm of its norm, so many times the median,
# and so many times the largest of the window.
NORM_DEVIATIONS, TIMES_USUAL, TIMES_LARGEST = 10.0, 10.0, 2.0
# More outliers than that one after another are the usual size from now on.
MOST_OUTLIERS_IN_A_ROW = 5
# A loss is far above the usual beyond so many standard deviations, this share of it, and where this share of all that
# was learned since the first steps is lost.
LOSS_DEVIATIONS, SHARE_OF_USUAL, SHARE_LOST = 6.0, 0.5, 0.5
# A run has diverged when its loss is that far above for so many steps in a row.
PATIENCE = 30
# Of a normal distribution, the standard deviation in median absolute deviations.
MAD_TO_STD = 1.4826


@dataclass
class Spikes:
    """The last steps of a run, by which the next is judged; plain JSON types.

    Attributes:
        losses, norms: of the last steps that were as usual, `WINDOW` at most; of the gradient, before it was clipped.
        first: the usual loss of the first steps; None as long as these are not over.
        kind: in what way the images of those steps were made; of another kind, losses are not to be compared.
        outliers: steps in a row, up to the last one, whose gradient was an outlier.
        above: steps in a row, up to the last one, whose loss was far above the usual.
    """

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    first: float | None = None
    kind: list[bool] = field(default_factory=list)
    outliers: int = 0
    above: int = 0

    @property
    def diverged(self) -> bool:
        return self.above >= PATIENCE

    def see(self, loss: float, norm: float, kind: Sequence[bool] = ()) -> bool:
        """Judge a step by those before it, and remember it; whether it is to be left out.

        Args:
            loss, norm: finite, the same in every process.
            kind: what distinguishes the making of its images from that of other steps.
        """
        if list(kind) != self.kind:
            self.losses, self.norms, self.kind = [], [], list(kind)
            self.outliers = self.above = 0
        if far_out(norm, self.norms):
            self.outliers += 1
            if self.outliers <= MOST_OUTLIERS_IN_A_ROW:
                return True
        else:
            self.outliers = 0
        self.norms = [*self.norms[1 - WINDOW :], norm]
        if far_above(loss, self.losses, self.first):
            self.above += 1
        else:
            self.above = 0
            self.losses = [*self.losses[1 - WINDOW :], loss]
        if self.first is None and len(self.losses) == LEAST:
            self.first = median(self.losses)
        return False


def far_out(norm: float, norms: Sequence[float]) -> bool:
    """Whether a gradient's norm is an outlier among those before it."""
    sizes = [math.log(one) for one in norms if one > 0]
    if norm <= 0 or len(sizes) < LEAST:
        return False
    usual = median(sizes)
    limit = max(
        usual + NORM_DEVIATIONS * spread(sizes, usual),
        usual + math.log(TIMES_USUAL),
        max(sizes) + math.log(TIMES_LARGEST),
    )
    return math.log(norm) > limit


def far_above(loss: float, losses: Sequence[float], first: float | None) -> bool:
    """Whether a loss is far above those before it, in a run that began at `first`."""
    if first is None or len(losses) < LEAST:
        return False
    usual = median(losses)
    limit = max(LOSS_DEVIATIONS * spread(losses, usual), SHARE_OF_USUAL * usual, SHARE_LOST * (first - usual))
    return loss > usual + limit


def spread(values: Sequence[float], middle: float) -> float:
    """The standard deviation, by the median distance from the median, `middle`."""
    return MAD_TO_STD * median([abs(value - middle) for value in values])
