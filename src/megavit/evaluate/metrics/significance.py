"""Whether one model is better than another on the same images by more than chance."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from megavit.evaluate.metrics.bootstrap import Interval, bootstrap_counts

SIGNIFICANCE_LEVEL = 0.05
"""A gain that chance alone brings as often as that is none."""
RESAMPLES = 1000


def mcnemar_test(before: Tensor, after: Tensor, alternative: Literal["greater", "two-sided"] = "greater") -> float:
    """The chance of at least as many images more right `after` than `before`, if none of the two were better.

    McNemar's test in its exact form (Psychometrika 12, 1947): only images where just one is right say anything, and of
    these each is as likely to be right.

    Args:
        before, after: (N,) bools, whether each answer is right.
        alternative: "two-sided" for the chance of as large a difference either way.
    """
    from scipy.stats import binomtest

    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    if gained + lost == 0:
        return 1.0
    return float(binomtest(gained, gained + lost, 0.5, alternative=alternative).pvalue)


def bootstrap_accuracy_difference(before: Tensor, after: Tensor) -> Interval:
    """Of the share of images that are right, (N,) bools each, with its interval over the images."""
    cells = np.array([int((before & ~after).sum()), int((after & ~before).sum()), int((before == after).sum())])
    sign = np.array([-1, 1, 0])
    kept = cells > 0
    return bootstrap_counts(lambda counts: counts @ sign[kept] / counts.sum(axis=1), cells[kept])


def paired_bootstrap_test(images: int, gain: Callable[[Tensor], float], seed: int = 0) -> float:
    """How often the gain is none when the images are drawn anew (Efron 1979), each with both models' answers.

    Args:
        images: their number.
        gain: of the images at these places, drawn with replacement.
        seed: of the drawing.
    """
    random = np.random.default_rng(seed)
    none = sum(gain(torch.from_numpy(random.integers(images, size=images))) <= 0 for _ in range(RESAMPLES))
    return (none + 1) / (RESAMPLES + 1)
