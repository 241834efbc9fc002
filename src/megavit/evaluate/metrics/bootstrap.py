"""How far a measured share may be off: 95% intervals, by formula or by resampling."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL = 0.95
"""Confidence of every interval."""

RESAMPLES = 1000
"""Enough for two stable digits of a 95% interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993)."""

_CHUNK = 4_000_000
"""Numbers drawn at once: 32 MB."""

_WORK = 200_000_000
"""Numbers gone through for the intervals of one set of images: some two seconds."""


@dataclass(frozen=True)
class Interval:
    """A measured value and the ends of its 95% interval; `low <= value <= high`."""

    value: float
    low: float
    high: float


def wilson_interval(successes: int, trials: int) -> Interval:
    """`successes / trials` with the Wilson score interval (Wilson 1927), sound for small counts and near 0 and 1.

    Raises:
        ValueError: unless 0 <= successes <= trials and trials >= 1.
    """
    from scipy.stats import binomtest

    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"expected 0 <= successes <= trials and at least one trial, got {successes} of {trials}")
    ends = binomtest(successes, trials).proportion_ci(confidence_level=LEVEL, method="wilson")
    value = successes / trials
    return Interval(value, min(value, float(ends.low)), max(value, float(ends.high)))


def bootstrap_counts(
    statistic: "Callable[[NDArray[np.int64]], NDArray[np.float64]]", counts: "NDArray[np.int64]", seed: int = 0
) -> Interval:
    """`statistic` of `counts` with its percentile bootstrap interval (Efron 1979).

    The images are grouped into cells, such as (true class, predicted class), and only the cells' counts are
    resampled. Drawing N images with replacement and counting them by cell *is* a multinomial draw of N over
    the cells' shares, so nothing is approximated, and the work grows with the cells instead of the images.

    The interval sees only the kinds of error that occurred: without one it has no width. It is widened to hold
    the value where resamples of tiny classes are biased to one side of it.

    Args:
        statistic: counts (resamples, cells) -> values (resamples,).
        counts: images per cell (cells,), at least one image in all; leave out the empty cells.
        seed: of the resampling; the same seed gives the same interval.
    """
    random = np.random.default_rng(seed)
    total = int(counts.sum())
    shares = counts / total
    chunk = max(1, _CHUNK // len(counts))
    values = np.concatenate(
        [
            statistic(random.multinomial(total, shares, size=min(chunk, RESAMPLES - done)))
            for done in range(0, RESAMPLES, chunk)
        ]
    )
    value = float(statistic(counts[None])[0])
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, min(value, float(low)), max(value, float(high)))


def bootstrap_images(
    statistic: "Callable[[NDArray[np.float64]], NDArray[np.float64]]", images: int, work: int = 1, seed: int = 0
) -> list[Interval | None]:
    """Each figure of `statistic` with its percentile bootstrap interval, where cells do not describe the images.

    A resample is how often each image was drawn. Figures that are NaN in a resample, such as the recall of a
    label that was not drawn, are left out of it; a figure that is NaN for the images as they are is None.
    Where a thousand resamples would take long, there are fewer, a hundred at least.

    Args:
        statistic: times drawn (resamples, images) -> values (resamples, figures).
        images: at least one.
        work: how many times `statistic` goes through all that it is given, such as the number of labels.
        seed: of the resampling; the same seed gives the same intervals.
    """
    random = np.random.default_rng(seed)
    resamples = max(100, min(RESAMPLES, _WORK // (images * work)))
    chunk = max(1, _CHUNK // images)
    shares = np.full(images, 1 / images)
    values = np.concatenate(
        [
            statistic(random.multinomial(images, shares, size=min(chunk, resamples - done)).astype(np.float64))
            for done in range(0, resamples, chunk)
        ]
    )
    found: list[Interval | None] = []
    for value, column in zip(statistic(np.ones((1, images)))[0].tolist(), values.T, strict=True):
        known = column[~np.isnan(column)]
        if math.isnan(value) or not len(known):
            found.append(None)
            continue
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        found.append(Interval(value, min(value, float(low)), max(value, float(high))))
    return found
