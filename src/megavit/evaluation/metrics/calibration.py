"""Calibrate probabilities by temperature and smoothing, and measure the expected calibration error."""

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
from megavit.evaluation.metrics.bootstrap import Interval, bootstrap_images, wilson_interval
from megavit.model.outputs.logits import logits_to_outputs

MAX_BINS, MIN_BIN_SIZE = 15, 20
LOG_TEMPERATURE_BOUNDS, SMOOTHING_BOUNDS = (-math.log(100), math.log(100)), (0.0, 0.3)
# Keeps the logarithm finite.
MIN_PROBABILITY = 1e-12
# Log-likelihood that a second parameter must gain (Akaike 1974, doi 10.1109/TAC.1974.1100705).
MIN_LOG_LIKELIHOOD_GAIN = 1.0
# With more logits, only some of the images are used: this is enough to fit two parameters.
MAX_FIT_ELEMENTS = 5_000_000


def fit_temperature(
    logits: Tensor, targets: Tensor, kind: TargetKind, *, temperature_only: bool = False
) -> tuple[float, float]:
    """Return the maximum-likelihood temperature and smoothing.

    A temperature alone (arXiv 1706.04599) cannot undo label smoothing, which lowers confident predictions and raises
    others; both together give a lower calibration error (docs/concepts). The smoothing is 0 if it explains hardly
    anything. One extra prediction counts as wrong, so that a few images, all predicted correctly, do not make a model
    certain of everything.

    Args:
        logits: (N, outputs) for images that the model was not trained on.
        targets: targets as returned by `megavit.data.targets.target_tensor`.
        kind: "classification" or "multilabel", which has no smoothing.
        temperature_only: fix the smoothing at 0, so that a linear head can represent the calibration.
    """
    from scipy.optimize import minimize, minimize_scalar

    subset = slice(0, len(logits), -(-logits.numel() // MAX_FIT_ELEMENTS))
    fit_logits, truth = logits[subset].double(), targets[subset]

    def loss(log_temperature: float, smoothing: float = 0.0) -> float:
        probabilities = logits_to_outputs(
            fit_logits, Target(kind=kind), Calibration(temperature=math.exp(log_temperature), smoothing=smoothing)
        )
        if kind == "classification":
            likelihood, confidence = F.nll_loss(probabilities.log(), truth), probabilities.amax(dim=1)
        else:
            likelihood = F.binary_cross_entropy(probabilities, truth.double())
            confidence = torch.maximum(probabilities, 1 - probabilities)
        wrong = -(1 - confidence).clamp_min(MIN_PROBABILITY).log().mean()
        return (likelihood + wrong / len(truth)).item()

    unsmoothed: Any = minimize_scalar(loss, bounds=LOG_TEMPERATURE_BOUNDS, method="bounded", options={"xatol": 1e-4})
    if kind != "classification" or temperature_only:
        return math.exp(unsmoothed.x), 0.0
    start = [[0.0, 0.05], [-0.5, 0.05], [0.0, 0.15]]
    smoothed = minimize(
        lambda point: loss(*map(float, point)),
        start[0],
        method="Nelder-Mead",
        bounds=(LOG_TEMPERATURE_BOUNDS, SMOOTHING_BOUNDS),
        options={"initial_simplex": start, "xatol": 1e-4, "fatol": 1e-7},
    )
    if (unsmoothed.fun - smoothed.fun) * len(truth) < MIN_LOG_LIKELIHOOD_GAIN:
        return math.exp(unsmoothed.x), 0.0
    return math.exp(smoothed.x[0]), float(smoothed.x[1])


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions of similar confidence: mean confidence, accuracy and number."""

    confidence: float
    accuracy: Interval
    count: int


@dataclass(frozen=True)
class Reliability:
    """A comparison of confidence with accuracy.

    Attributes:
        ece: expected calibration error, in [0, 1], with its bootstrap interval: the mean over predictions of the
            difference between the accuracy and the mean confidence of their bin. It is biased upward.
        bins: bins of equal numbers of predictions, the least confident first.
    """

    ece: Interval
    bins: tuple[ReliabilityBin, ...]


def compute_reliability(probabilities: Tensor, targets: Tensor, kind: TargetKind) -> Reliability:
    """Return the reliability of each image's most probable class, or of every label of each image.

    Args:
        probabilities: (N, outputs), as returned by `megavit.model.outputs.logits.logits_to_outputs`.
        targets: as returned by `megavit.data.targets.target_tensor`.
        kind: "classification" or "multilabel".
    """
    if kind == "classification":
        confidence, predicted = probabilities.double().max(dim=1, keepdim=True)
        correct = predicted == targets[:, None]
    else:
        confidence, correct = probabilities.double(), targets.bool()
    bins = _bin_indices(confidence.flatten()).view(confidence.shape)
    count = int(bins.max()) + 1
    # Confidence minus accuracy of each image's predictions in each bin.
    excess = torch.zeros(len(bins), count, dtype=torch.float64)
    excess = excess.scatter_add_(1, bins, confidence - correct.double()).numpy()

    def error(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        predictions = weights.sum(axis=1, keepdims=True) * bins.shape[1]
        return np.abs(weights @ excess).sum(axis=1, keepdims=True) / predictions

    (ece,) = bootstrap_images(error, len(bins), work=count)
    assert ece is not None
    return Reliability(ece, tuple(_make_bin(confidence[bins == i], correct[bins == i]) for i in range(count)))


def _make_bin(confidence: Tensor, correct: Tensor) -> ReliabilityBin:
    return ReliabilityBin(confidence.mean().item(), wilson_interval(int(correct.sum()), len(correct)), len(correct))


def _bin_indices(confidence: Tensor) -> Tensor:
    count = min(MAX_BINS, max(1, len(confidence) // MIN_BIN_SIZE))
    edges = torch.from_numpy(np.quantile(confidence.numpy(), np.linspace(0, 1, count + 1)[1:-1]))
    return torch.bucketize(confidence, edges, right=True).unique(return_inverse=True)[1]
