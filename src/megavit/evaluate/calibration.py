"""Whether probabilities are what they say, and the temperature that makes them so (arXiv 1706.04599)."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.config.target import TargetKind
from megavit.evaluate.intervals import Interval, bootstrap_images, wilson

# Bins of equal numbers of answers, each of so many at least.
MOST_BINS, LEAST_ANSWERS = 15, 20
# Of the logarithm of the temperature: from a hundredth to a hundred.
RANGE = math.log(100)


def fit_temperature(logits: Tensor, targets: Tensor, kind: TargetKind) -> float:
    """The temperature whose probabilities are likeliest to give the targets.

    Args:
        logits: (N, outputs) of images that the model has not learnt from.
        targets: as `megavit.data.targets.targets_of` gives them.
        kind: "classes" or "labels".
    """
    from scipy.optimize import minimize_scalar

    wide = logits.double()

    def loss(log_temperature: float) -> float:
        scaled = wide / math.exp(log_temperature)
        if kind == "classes":
            return F.cross_entropy(scaled, targets).item()
        return F.binary_cross_entropy_with_logits(scaled, targets.double()).item()

    return math.exp(minimize_scalar(loss, bounds=(-RANGE, RANGE), method="bounded", options={"xatol": 1e-4}).x)


@dataclass(frozen=True)
class Bin:
    """Answers of about the same probability: their mean probability, and the share that was right."""

    probability: float
    right: Interval
    answers: int


@dataclass(frozen=True)
class Reliability:
    """How probabilities compare with what came true.

    Attributes:
        error: expected calibration error: the mean, over answers, of how far the share of right ones in a bin is from
            their mean probability, in [0, 1]; with its bootstrap interval. Chance alone makes it more than 0.
        bins: of equal numbers of answers, the least probable first.
    """

    error: Interval
    bins: tuple[Bin, ...]


def reliability(probabilities: Tensor, targets: Tensor, kind: TargetKind) -> Reliability:
    """Of the likeliest class of each image; of several labels, of every label of each image.

    Args:
        probabilities: (N, outputs), as `megavit.predict.outputs.outputs` gives them.
        targets: as `megavit.data.targets.targets_of` gives them.
        kind: "classes" or "labels".
    """
    if kind == "classes":
        sure, answered = probabilities.double().max(dim=1, keepdim=True)
        right = answered == targets[:, None]
    else:
        sure, right = probabilities.double(), targets.bool()
    bins = _bins(sure.flatten()).view(sure.shape)
    count = int(bins.max()) + 1
    # Of each image and bin, by how much its answers promised more than came true.
    excess = torch.zeros(len(sure), count, dtype=torch.float64).scatter_add_(1, bins, sure - right.double()).numpy()

    def error(drawn: "np.ndarray") -> "np.ndarray":
        return np.abs(drawn @ excess).sum(axis=1, keepdims=True) / (drawn.sum(axis=1, keepdims=True) * sure.shape[1])

    (interval,) = bootstrap_images(error, len(sure), work=count)
    assert interval is not None  # as at least one image is drawn in every resample
    return Reliability(interval, tuple(_bin(sure[bins == place], right[bins == place]) for place in range(count)))


def _bins(sure: Tensor) -> Tensor:
    """The bin of each answer; equal probabilities share one."""
    count = min(MOST_BINS, max(1, len(sure) // LEAST_ANSWERS))
    edges = torch.from_numpy(np.quantile(sure.numpy(), np.linspace(0, 1, count + 1)[1:-1]))
    found = torch.bucketize(sure, edges, right=True)
    return found.unique(return_inverse=True)[1]  # none is empty


def _bin(sure: Tensor, right: Tensor) -> Bin:
    return Bin(sure.mean().item(), wilson(int(right.sum()), len(right)), len(right))
