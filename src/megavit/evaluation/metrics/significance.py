"""Test whether one model is significantly better than another on the same images."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from megavit.evaluation.metrics.bootstrap import RESAMPLES, Interval, bootstrap_counts

SIGNIFICANCE_LEVEL = 0.05


def mcnemar_test(before: Tensor, after: Tensor, alternative: Literal["greater", "two-sided"] = "greater") -> float:
    """Return the p-value of McNemar's exact test (Psychometrika 12, 1947) that `after` is more often correct.

    `before` and `after` are (N,) bools; "two-sided" tests for a difference in either direction.
    """
    from scipy.stats import binomtest

    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    if gained + lost == 0:
        return 1.0
    return float(binomtest(gained, gained + lost, 0.5, alternative=alternative).pvalue)


def bootstrap_accuracy_difference(before: Tensor, after: Tensor) -> Interval:
    """Return the accuracy of `after` minus that of `before`, (N,) bools each, with its paired bootstrap interval."""
    cells = np.array([int((before & ~after).sum()), int((after & ~before).sum()), int((before == after).sum())])
    sign = np.array([-1, 1, 0])
    present = cells > 0
    return bootstrap_counts(lambda counts: counts @ sign[present] / counts.sum(axis=1), cells[present])


def paired_bootstrap_test(images: int, gain: Callable[[Tensor], float], seed: int = 0) -> float:
    """Return the p-value of the paired bootstrap test (Efron 1979) that the gain is positive.

    `gain` computes the gain on the images at these indices, drawn with replacement.
    """
    random = np.random.default_rng(seed)
    not_better = sum(gain(torch.from_numpy(random.integers(images, size=images))) <= 0 for _ in range(RESAMPLES))
    return (not_better + 1) / (RESAMPLES + 1)
