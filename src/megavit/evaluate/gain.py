"""Whether one model is better than another on the same images by more than chance."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

CHANCE = 0.05
"""A gain that chance alone brings as often as that is none."""
RESAMPLES = 1000


def mcnemar(before: Tensor, after: Tensor) -> float:
    """The chance of at least as many images more right `after` than `before`, if none of the two were better.

    McNemar's test in its exact form (Psychometrika 12, 1947), one-sided: only images where just one is right say
    anything, and of these each is as likely to be right.

    Args:
        before, after: (N,) bools, whether each answer is right.
    """
    from scipy.stats import binomtest

    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    if gained + lost == 0:
        return 1.0
    return float(binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue)


def paired_bootstrap(images: int, gain: Callable[[Tensor], float], seed: int = 0) -> float:
    """How often the gain is none when the images are drawn anew (Efron 1979), each with both models' answers.

    Args:
        images: their number.
        gain: of the images at these places, drawn with replacement.
        seed: of the drawing.
    """
    random = np.random.default_rng(seed)
    none = sum(gain(torch.from_numpy(random.integers(images, size=images))) <= 0 for _ in range(RESAMPLES))
    return (none + 1) / (RESAMPLES + 1)
