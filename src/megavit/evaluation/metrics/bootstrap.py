"""Compute 95% confidence intervals: Wilson's for proportions, the bootstrap's for everything else.

Resamples are drawn as counts, so that a metric of a thousand resamples takes a few matrix products: about 3 times
faster for 2,000 images of 10 classes than `scipy.stats.bootstrap`, which draws indices and gives the same intervals.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE_LEVEL = 0.95

RESAMPLES = 1000
"""Enough for two stable digits of a 95% interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993)."""

_CHUNK_ELEMENTS = 4_000_000
"""Elements drawn at once (32 MB)."""

_MAX_ELEMENTS = 200_000_000
"""Elements processed for the intervals of one set of images, which takes about two seconds."""


@dataclass(frozen=True)
class Interval:
    """A value with its 95% confidence interval; `low <= value <= high`."""

    value: float
    low: float
    high: float


def wilson_interval(successes: int, trials: int) -> Interval:
    """Return `successes / trials` with its Wilson score interval, which is valid for small counts and near 0 and 1.

    Raises:
        ValueError: unless 0 <= successes <= trials and trials >= 1.
    """
    from scipy.stats import binomtest

    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"expected 0 <= successes <= trials and at least one trial, got {successes} of {trials}")
    ends = binomtest(successes, trials).proportion_ci(confidence_level=CONFIDENCE_LEVEL, method="wilson")
    value = successes / trials
    return Interval(value, min(value, float(ends.low)), max(value, float(ends.high)))


def bootstrap_counts(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]], counts: NDArray[np.int64], seed: int = 0
) -> Interval:
    """Return `statistic` of `counts` with its percentile bootstrap interval (Efron 1979).

    The images are grouped into cells, such as (true class, predicted class). Resampling N images with replacement is
    exactly a multinomial draw of N over the cells' shares, whose cost grows with the cells instead of the images.

    Args:
        statistic: function from counts (resamples, cells) to values (resamples,).
        counts: number of images per non-empty cell (cells,), at least one image in total.
    """
    total = int(counts.sum())
    values = _resample(statistic, total, counts / total, RESAMPLES, seed)
    return _percentile_interval(float(statistic(counts[None])[0]), values)


def bootstrap_images(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]], images: int, work: int = 1, seed: int = 0
) -> list[Interval | None]:
    """Return each value of `statistic` with its percentile bootstrap interval over the images.

    Resamples for which a value is NaN, such as the recall of a label that was not drawn, are ignored; a value that is
    NaN for the images themselves gives None. Expensive statistics use fewer than `RESAMPLES` resamples, at least 100.

    Args:
        statistic: function from the number of times each image is drawn (resamples, images) to values (resamples,
            metrics).
        work: how many times `statistic` processes its input, such as the number of labels.
    """
    resamples = max(100, min(RESAMPLES, _MAX_ELEMENTS // (images * work)))
    values = _resample(
        lambda drawn: statistic(drawn.astype(np.float64)), images, np.full(images, 1 / images), resamples, seed
    )
    intervals: list[Interval | None] = []
    for value, column in zip(statistic(np.ones((1, images)))[0].tolist(), values.T, strict=True):
        known = column[~np.isnan(column)]
        intervals.append(None if math.isnan(value) or not len(known) else _percentile_interval(value, known))
    return intervals


def _resample(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    total: int,
    shares: NDArray[np.float64],
    resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_ELEMENTS // len(shares))
    sizes = [min(chunk, resamples - done) for done in range(0, resamples, chunk)]
    return np.concatenate([statistic(random.multinomial(total, shares, size=size)) for size in sizes])


def _percentile_interval(value: float, resampled: NDArray[np.float64]) -> Interval:
    """Return the percentile interval, widened to contain `value` if tiny classes bias the resamples."""
    low, high = np.quantile(resampled, [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2])
    return Interval(value, min(value, float(low)), max(value, float(high)))
