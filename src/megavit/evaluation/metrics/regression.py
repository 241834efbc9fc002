"""Compute the metrics of regression models with 95% intervals, and those of constant baselines."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from megavit.errors import DataError
from megavit.evaluation.metrics.bootstrap import Interval, bootstrap_images


@dataclass(frozen=True)
class RegressionMetrics:
    """Metrics of a regression model in the unit of the targets, with bootstrap intervals.

    Attributes:
        mae: mean absolute error.
        rmse: root mean squared error.
        r2: coefficient of determination, at most 1; None if all targets are equal.
        spearman: rank correlation, in [-1, 1]; None if all targets, or all predictions, are equal.
        median, mean: of the training images' targets; if unknown, of these images' targets.
        baseline_mae: mean absolute error of always predicting `median`.
        baseline_rmse: root mean squared error of always predicting `mean`.
        min_target, max_target: range of these images' targets.
        baseline_from_training: whether `median` and `mean` are those of the training images.
    """

    images: int
    mae: Interval
    rmse: Interval
    r2: Interval | None
    spearman: Interval | None
    median: float
    mean: float
    baseline_mae: float
    baseline_rmse: float
    min_target: float
    max_target: float
    baseline_from_training: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as plain JSON types."""
        from pydantic import TypeAdapter

        return TypeAdapter(RegressionMetrics).dump_python(self, mode="json")


def compute_regression_metrics(
    predictions: Tensor, targets: Tensor, *, mean: float | None = None, median: float | None = None
) -> RegressionMetrics:
    """Return the metrics of predicted values.

    Args:
        predictions, targets: (N,), finite.
        mean, median: of the training images' targets; None: those of `targets`.

    Raises:
        DataError: if there are no images.
        ValueError: for other shapes, or numbers that are not finite.
    """
    if predictions.ndim != 1 or predictions.shape != targets.shape:
        raise ValueError(
            f"predictions and targets must have the same shape (N,), got {tuple(predictions.shape)} and "
            f"{tuple(targets.shape)}"
        )
    if not len(targets):
        raise DataError("expected at least one image to evaluate, got none: add images to this split")
    predicted, truth = (values.detach().cpu().double().numpy() for values in (predictions, targets))
    if not (np.isfinite(predicted).all() and np.isfinite(truth).all()):
        raise ValueError("predictions and targets must be finite numbers")
    from_training = mean is not None and median is not None
    mean = float(truth.mean()) if mean is None else mean
    median = float(np.median(truth)) if median is None else median
    absolute, squared = np.abs(predicted - truth), np.square(predicted - truth)
    # Centered, as the sum of squares of large numbers would lose digits.
    centered = truth - truth.mean()
    equal, constant = bool((truth == truth[0]).all()), bool((predicted == predicted[0]).all())
    true_ranks, predicted_ranks = _WeightedRanks(truth), _WeightedRanks(predicted)
    images = len(truth)

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        mse = weights @ squared / images
        variance = weights @ np.square(centered) / images - np.square(weights @ centered / images)
        r2 = np.full(len(weights), np.nan) if equal else 1 - _ratio(mse, variance)
        spearman = np.full(len(weights), np.nan)
        if not equal and not constant:
            spearman = _weighted_correlation(true_ranks.ranks(weights), predicted_ranks.ranks(weights), weights)
        return np.column_stack([weights @ absolute / images, np.sqrt(mse), r2, spearman])

    mae, rmse, r2, spearman = bootstrap_images(statistic, images, work=8)
    assert mae is not None and rmse is not None
    return RegressionMetrics(
        images=images,
        mae=mae,
        rmse=rmse,
        r2=r2,
        spearman=spearman,
        median=median,
        mean=mean,
        baseline_mae=float(np.abs(truth - median).mean()),
        baseline_rmse=float(np.sqrt(np.square(truth - mean).mean())),
        min_target=float(truth.min()),
        max_target=float(truth.max()),
        baseline_from_training=from_training,
    )


class _WeightedRanks:
    """Ranks of values when each image counts as often as it was drawn; ties share their middle rank."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        _, self.group = np.unique(values, return_inverse=True)
        self.order = np.argsort(self.group, kind="stable")
        self.starts = np.flatnonzero(np.diff(self.group[self.order], prepend=-1))

    def ranks(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        times = np.add.reduceat(weights[:, self.order], self.starts, axis=1)
        return (np.cumsum(times, axis=1) - (times - 1) / 2)[:, self.group]


def _weighted_correlation(
    a: NDArray[np.float64], b: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    total = weights.sum(axis=1, keepdims=True)
    a = a - (weights * a).sum(axis=1, keepdims=True) / total
    b = b - (weights * b).sum(axis=1, keepdims=True) / total
    scale = np.sqrt((weights * a**2).sum(axis=1) * (weights * b**2).sum(axis=1))
    return np.clip(_ratio((weights * a * b).sum(axis=1), scale), -1, 1)


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ratio, or NaN where the denominator is zero."""
    defined = denominator > 1e-12 * max(1e-300, float(denominator.max()))
    return np.where(defined, numerator / np.where(defined, denominator, 1), np.nan)
