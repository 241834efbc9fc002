"""Select the metrics for a kind of target, and compute its primary metric for weighted images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from megavit.config.target import Target, TargetKind
from megavit.evaluation.metrics.bootstrap import Interval, bootstrap_images, wilson_interval
from megavit.evaluation.metrics.classification import ClassificationMetrics, compute_classification_metrics
from megavit.evaluation.metrics.multilabel import MultilabelMetrics, RankedImages, compute_multilabel_metrics, nan_mean
from megavit.evaluation.metrics.regression import RegressionMetrics, compute_regression_metrics

Metrics = ClassificationMetrics | MultilabelMetrics | RegressionMetrics

METRIC_NAMES: dict[TargetKind, str] = {
    "classification": "accuracy",
    "multilabel": "mean average precision",
    "regression": "mean absolute error",
}
"""Name of the primary metric for each kind of target."""


@dataclass(frozen=True)
class PrimaryMetric:
    """The primary metric of predictions, as a function of the images' weights.

    Attributes:
        compute: function from weights (R, images) to the metric for each row (R,), NaN where it is undefined.
        work: how many times `compute` processes its input.
        correct: whether each image is classified correctly, (images,) bools; None unless `kind` is "classification".
    """

    kind: TargetKind
    images: int
    compute: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    work: int
    correct: NDArray[np.bool_] | None = None

    def interval(self) -> Interval | None:
        """Return the metric with its Wilson (accuracy) or bootstrap interval; None if no image has a label."""
        if self.correct is not None:
            return wilson_interval(int(self.correct.sum()), self.images)
        return bootstrap_images(lambda drawn: self.compute(drawn)[:, None], self.images, work=self.work)[0]


def make_primary_metric(outputs: Tensor, targets: Tensor, kind: TargetKind) -> PrimaryMetric:
    """Return the primary metric of predictions for at least one image.

    Args:
        outputs: as returned by `megavit.model.outputs.logits.logits_to_outputs`.
        targets: as returned by `megavit.data.targets.target_tensor`.
    """
    images = len(targets)
    match kind:
        case "classification":
            correct = (outputs.argmax(dim=1) == targets).cpu().numpy()
            return PrimaryMetric(kind, images, _weighted_mean(correct.astype(np.float64)), 1, correct)
        case "multilabel":
            probabilities, truth = outputs.detach().cpu().double().numpy(), targets.cpu().numpy()
            ranked = [RankedImages(probabilities[:, label], truth[:, label]) for label in range(truth.shape[1])]

            def mean_average_precision(weights: NDArray[np.float64]) -> NDArray[np.float64]:
                return nan_mean(np.stack([label.average_precision(weights) for label in ranked], axis=1))

            return PrimaryMetric(kind, images, mean_average_precision, 4 * len(ranked))
        case "regression":
            errors = (outputs.detach().cpu().double() - targets.cpu().double()).abs().numpy()
            return PrimaryMetric(kind, images, _weighted_mean(errors), 1)


def _weighted_mean(values: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    def mean(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        total = weights.sum(axis=1)
        return np.where(total > 0, weights @ values / np.maximum(total, 1), np.nan)

    return mean


def compute_metrics(outputs: Tensor, targets: Tensor, names: Sequence[str], target: Target) -> Metrics:
    """Return the metrics of predictions, with `outputs` and `targets` as for `make_primary_metric`.

    Raises:
        DataError: if there are no images.
    """
    match target.kind:
        case "classification":
            return compute_classification_metrics(outputs, targets, names)
        case "multilabel":
            return compute_multilabel_metrics(outputs, targets, names, target.thresholds)
        case "regression":
            if target.median is None:  # unknown for a model trained by another library, as is the mean
                return compute_regression_metrics(outputs, targets)
            return compute_regression_metrics(outputs, targets, mean=target.mean, median=target.median)
