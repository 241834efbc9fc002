"""Whether probabilities are what they say, and what makes them so."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.config.calibration import Calibration
from megavit.config.target import Target, TargetKind
from megavit.evaluate.metrics.bootstrap import Interval, bootstrap_images, wilson_interval
from megavit.predict.postprocess.postprocess import logits_to_outputs

# Bins of equal numbers of answers, each of so many at least.
MOST_BINS, LEAST_ANSWERS = 15, 20
# Of the logarithm of the temperature, from a hundredth to a hundred, and of the smoothing.
TEMPERATURES, SMOOTHINGS = (-math.log(100), math.log(100)), (0.0, 0.3)
# Of an answer, so that its logarithm is finite.
LEAST_DOUBT = 1e-12
# By which a second number must make the log-likelihood better to be worth having (Akaike 1974, doi
# 10.1109/TAC.1974.1100705); without it, a linear head of another library can hold the calibration.
LEAST_GAIN = 1.0
# Numbers are enough to fit two by: of more images, some.
MOST_NUMBERS = 5_000_000


def fit_temperature(
    logits: Tensor, targets: Tensor, kind: TargetKind, *, temperature_only: bool = False
) -> tuple[float, float]:
    """The temperature and the smoothing whose probabilities are likeliest to give the targets.

    A temperature alone (arXiv 1706.04599) cannot undo label smoothing, which holds sure answers down and leaves others
    too high: both together are off by less (docs/concepts). Where the smoothing explains hardly anything, it is 0. One
    answer more than there was counts as wrong, so that a few images, all answered right, do not make a model sure of
    everything.

    Args:
        logits: (N, outputs) of images that the model has not learned from.
        targets: as `megavit.data.targets.targets_of` gives them.
        kind: "classification" or "multilabel", which have no smoothing.
        temperature_only: leave the smoothing at 0, so that a linear head can hold the calibration.
    """
    from scipy.optimize import minimize, minimize_scalar

    some = slice(0, len(logits), -(-logits.numel() // MOST_NUMBERS))
    wide, truth = logits[some].double(), targets[some]

    def loss(log_temperature: float, smoothing: float = 0.0) -> float:
        answers = logits_to_outputs(
            wide, Target(kind=kind), Calibration(temperature=math.exp(log_temperature), smoothing=smoothing)
        )
        if kind == "classification":
            seen, sure = F.nll_loss(answers.log(), truth), answers.amax(dim=1)
        else:
            seen, sure = F.binary_cross_entropy(answers, truth.double()), torch.maximum(answers, 1 - answers)
        wrong = -(1 - sure).clamp_min(LEAST_DOUBT).log().mean()
        return (seen + wrong / len(truth)).item()

    alone: Any = minimize_scalar(loss, bounds=TEMPERATURES, method="bounded", options={"xatol": 1e-4})
    if kind != "classification" or temperature_only:
        return math.exp(alone.x), 0.0
    start = [[0.0, 0.05], [-0.5, 0.05], [0.0, 0.15]]
    settings = {"initial_simplex": start, "xatol": 1e-4, "fatol": 1e-7}
    both = minimize(
        lambda point: loss(*map(float, point)),
        start[0],
        method="Nelder-Mead",
        bounds=(TEMPERATURES, SMOOTHINGS),
        options=settings,
    )
    if (alone.fun - both.fun) * len(truth) < LEAST_GAIN:
        return math.exp(alone.x), 0.0
    return math.exp(both.x[0]), float(both.x[1])


@dataclass(frozen=True)
class ReliabilityBin:
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
    bins: tuple[ReliabilityBin, ...]


def compute_reliability(probabilities: Tensor, targets: Tensor, kind: TargetKind) -> Reliability:
    """Of the likeliest class of each image; of several labels, of every label of each image.

    Args:
        probabilities: (N, outputs), as `megavit.predict.postprocess.postprocess.logits_to_outputs` gives them.
        targets: as `megavit.data.targets.targets_of` gives them.
        kind: "classification" or "multilabel".
    """
    if kind == "classification":
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


def _bin(sure: Tensor, right: Tensor) -> ReliabilityBin:
    return ReliabilityBin(sure.mean().item(), wilson_interval(int(right.sum()), len(right)), len(right))
