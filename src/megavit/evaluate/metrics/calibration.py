"""Calibration of probabilities: the temperature and smoothing that are fitted, and the expected calibration error."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from megavit.config.calibration import Calibration
from megavit.config.target import Target, TargetKind
from megavit.evaluate.metrics.bootstrap import Interval, bootstrap_images, wilson_interval
from megavit.predict.postprocess.postprocess import logits_to_outputs

# Bins of equal numbers of predictions.
MAX_BINS, MIN_BIN_SIZE = 15, 20
LOG_TEMPERATURE_BOUNDS, SMOOTHING_BOUNDS = (-math.log(100), math.log(100)), (0.0, 0.3)
# So that its logarithm is finite.
MIN_PROBABILITY = 1e-12
# By which a second parameter must improve the log-likelihood (Akaike 1974, doi 10.1109/TAC.1974.1100705); without it, a
# linear head of another library can hold the calibration.
MIN_LOG_LIKELIHOOD_GAIN = 1.0
# Enough to fit two parameters by: with more logits, only some of the images are used.
MAX_FIT_ELEMENTS = 5_000_000


def fit_temperature(
    logits: Tensor, targets: Tensor, kind: TargetKind, *, temperature_only: bool = False
) -> tuple[float, float]:
    """Return the temperature and the smoothing with the highest likelihood of the targets.

    A temperature alone (arXiv 1706.04599) cannot undo label smoothing, which holds confident predictions down and
    leaves others too high: both together have a lower calibration error (docs/concepts). Where the smoothing explains
    hardly anything, it is 0. One more prediction than there are counts as wrong, so that a few images, all predicted
    correctly, do not make a model sure of everything.

    Args:
        logits: (N, outputs) of images that the model was not trained on.
        targets: as `megavit.data.targets.target_tensor` gives them.
        kind: "classification" or "multilabel", which has no smoothing.
        temperature_only: leave the smoothing at 0, so that a linear head can hold the calibration.
    """
    from scipy.optimize import minimize, minimize_scalar

    subset = slice(0, len(logits), -(-logits.numel() // MAX_FIT_ELEMENTS))
    wide, truth = logits[subset].double(), targets[subset]

    def loss(log_temperature: float, smoothing: float = 0.0) -> float:
        probabilities = logits_to_outputs(
            wide, Target(kind=kind), Calibration(temperature=math.exp(log_temperature), smoothing=smoothing)
        )
        if kind == "classification":
            likelihood, confidence = F.nll_loss(probabilities.log(), truth), probabilities.amax(dim=1)
        else:
            likelihood = F.binary_cross_entropy(probabilities, truth.double())
            confidence = torch.maximum(probabilities, 1 - probabilities)
        wrong = -(1 - confidence).clamp_min(MIN_PROBABILITY).log().mean()
        return (likelihood + wrong / len(truth)).item()

    alone: Any = minimize_scalar(loss, bounds=LOG_TEMPERATURE_BOUNDS, method="bounded", options={"xatol": 1e-4})
    if kind != "classification" or temperature_only:
        return math.exp(alone.x), 0.0
    start = [[0.0, 0.05], [-0.5, 0.05], [0.0, 0.15]]
    both = minimize(
        lambda point: loss(*map(float, point)),
        start[0],
        method="Nelder-Mead",
        bounds=(LOG_TEMPERATURE_BOUNDS, SMOOTHING_BOUNDS),
        options={"initial_simplex": start, "xatol": 1e-4, "fatol": 1e-7},
    )
    if (alone.fun - both.fun) * len(truth) < MIN_LOG_LIKELIHOOD_GAIN:
        return math.exp(alone.x), 0.0
    return math.exp(both.x[0]), float(both.x[1])


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions of similar confidence: their mean confidence, their accuracy and their number."""

    confidence: float
    accuracy: Interval
    count: int


@dataclass(frozen=True)
class Reliability:
    """How confidence compares with accuracy.

    Attributes:
        ece: expected calibration error, in [0, 1], with its bootstrap interval: the mean over predictions of the
            difference between the accuracy and the mean confidence of their bin. Chance alone makes it more than 0.
        bins: of equal numbers of predictions, the least confident first.
    """

    ece: Interval
    bins: tuple[ReliabilityBin, ...]


def compute_reliability(probabilities: Tensor, targets: Tensor, kind: TargetKind) -> Reliability:
    """Return the reliability of the likeliest class of each image, or of every label of each image.

    Args:
        probabilities: (N, outputs), as `megavit.predict.postprocess.postprocess.logits_to_outputs` gives them.
        targets: as `megavit.data.targets.target_tensor` gives them.
        kind: "classification" or "multilabel".
    """
    if kind == "classification":
        confidence, predicted = probabilities.double().max(dim=1, keepdim=True)
        correct = predicted == targets[:, None]
    else:
        confidence, correct = probabilities.double(), targets.bool()
    bins = _bin_indices(confidence.flatten()).view(confidence.shape)
    count = int(bins.max()) + 1
    # By how much the confidence of each image's predictions in each bin exceeds their accuracy.
    excess = torch.zeros(len(bins), count, dtype=torch.float64)
    excess = excess.scatter_add_(1, bins, confidence - correct.double()).numpy()

    def error(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        predictions = weights.sum(axis=1, keepdims=True) * bins.shape[1]
        return np.abs(weights @ excess).sum(axis=1, keepdims=True) / predictions

    (ece,) = bootstrap_images(error, len(bins), work=count)
    assert ece is not None  # as at least one image is drawn in every resample
    return Reliability(ece, tuple(_make_bin(confidence[bins == i], correct[bins == i]) for i in range(count)))


def _make_bin(confidence: Tensor, correct: Tensor) -> ReliabilityBin:
    return ReliabilityBin(confidence.mean().item(), wilson_interval(int(correct.sum()), len(correct)), len(correct))


def _bin_indices(confidence: Tensor) -> Tensor:
    """Return the bin of each prediction; equal confidences share one."""
    count = min(MAX_BINS, max(1, len(confidence) // MIN_BIN_SIZE))
    edges = torch.from_numpy(np.quantile(confidence.numpy(), np.linspace(0, 1, count + 1)[1:-1]))
    return torch.bucketize(confidence, edges, right=True).unique(return_inverse=True)[1]  # none is empty
