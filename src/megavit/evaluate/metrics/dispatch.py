"""The metric that each kind of target is judged by first, for any way of drawing the images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from megavit.config.target import TargetKind
from megavit.evaluate.metrics.bootstrap import Interval, bootstrap_images, wilson_interval
from megavit.evaluate.metrics.multilabel import Ranking, nan_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray
from collections.abc import Sequence

from megavit.config.target import Target
from megavit.evaluate.metrics.classification import ClassificationMetrics, compute_classification_metrics
from megavit.evaluate.metrics.multilabel import MultilabelMetrics, compute_multilabel_metrics
from megavit.evaluate.metrics.regression import RegressionMetrics, compute_regression_metrics

METRIC_NAMES: dict[TargetKind, str] = {
    "classification": "accuracy",
    "multilabel": "mean average precision",
    "regression": "mean absolute error",
}


@dataclass(frozen=True)
class PrimaryMetric:
    """Accuracy of classes, mean average precision of labels, mean absolute error of scores.

    Attributes:
        kind: of the target.
        images: measured on.
        of: times each image is drawn (R, images) -> the metric of each draw (R,), NaN where it has none.
        work: how many times `of` goes through all that it is given.
        right: whether each image is answered right, (images,) bools; for classes alone.
    """

    kind: TargetKind
    images: int
    of: "Callable[[NDArray[np.float64]], NDArray[np.float64]]"
    work: int
    right: "NDArray[np.bool_] | None" = None

    def interval(self) -> Interval | None:
        """Wilson's for an accuracy, else the bootstrap's; None where the images have no label at all."""
        if self.right is not None:
            return wilson_interval(int(self.right.sum()), self.images)
        return bootstrap_images(lambda drawn: self.of(drawn)[:, None], self.images, work=self.work)[0]


def make_primary_metric(answers: Tensor, targets: Tensor, kind: TargetKind) -> PrimaryMetric:
    """Of these answers.

    Args:
        answers: as `megavit.predict.postprocess.postprocess.logits_to_outputs` gives them, one at least.
        targets: as `megavit.data.targets.targets_of` gives them.
        kind: of both.
    """
    images = len(targets)
    match kind:
        case "classification":
            right = is_correct(answers, targets)
            return PrimaryMetric(kind, images, _mean_of(right.astype(np.float64)), 1, right)
        case "multilabel":
            shares, truth = answers.detach().cpu().double().numpy(), targets.cpu().numpy()
            ranks = [Ranking(shares[:, label], truth[:, label]) for label in range(truth.shape[1])]

            def mean_average_precision(drawn: "NDArray[np.float64]") -> "NDArray[np.float64]":
                return nan_mean(np.stack([rank.average_precision(drawn) for rank in ranks], axis=1))

            return PrimaryMetric(kind, images, mean_average_precision, 4 * len(ranks))
        case "regression":
            errors = (answers.detach().cpu().double() - targets.cpu().double()).abs().numpy()
            return PrimaryMetric(kind, images, _mean_of(errors), 1)


def is_correct(answers: Tensor, targets: Tensor) -> "NDArray[np.bool_]":
    """Whether the likeliest class is the true one: (N, classes) probabilities and (N,) indices -> (N,)."""
    return (answers.argmax(dim=1) == targets).cpu().numpy()


def _mean_of(values: "NDArray[np.float64]") -> "Callable[[NDArray[np.float64]], NDArray[np.float64]]":
    def mean(drawn: "NDArray[np.float64]") -> "NDArray[np.float64]":
        count = drawn.sum(axis=1)
        return np.where(count > 0, drawn @ values / np.maximum(count, 1), np.nan)

    return mean


Metrics = ClassificationMetrics | MultilabelMetrics | RegressionMetrics


def compute_metrics(answers: Tensor, targets: Tensor, names: Sequence[str], target: Target) -> Metrics:
    """Compare answers with the truth.

    Args:
        answers: as `megavit.predict.postprocess.postprocess.logits_to_outputs` gives them.
        targets: as `megavit.data.targets.targets_of` gives them.
        names: of the classes or labels.
        target: of both.

    Raises:
        DataError: there are no images.
    """
    match target.kind:
        case "classification":
            return compute_classification_metrics(answers, targets, names)
        case "multilabel":
            return compute_multilabel_metrics(answers, targets, names, target.thresholds)
        case "regression":
            if target.median is None:  # nor is the mean known of a model that another library has trained
                return compute_regression_metrics(answers, targets)
            return compute_regression_metrics(answers, targets, mean=target.mean, median=target.median)
