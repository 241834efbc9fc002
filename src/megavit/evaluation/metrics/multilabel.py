"""Compute the metrics of multi-label classifiers with 95% intervals, and fit their thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from megavit.errors import DataError
from megavit.evaluation.metrics.bootstrap import Interval, bootstrap_images, wilson_interval

MIN_POSITIVES = 5
"""Minimum number of images with a label to fit its threshold."""


@dataclass(frozen=True)
class LabelMetrics:
    """Metrics of one label, in [0, 1].

    Attributes:
        images: number of images that have the label.
        average_precision: area under the precision-recall curve (bootstrap); None if no image has the label.
        threshold: minimum probability at which the label is assigned.
        precision: precision; None if the label is assigned to no image.
        recall: recall with its Wilson interval; None if no image has the label.
        f1: 2 TP / (2 TP + FP + FN); None if no image has the label or is assigned it.
    """

    name: str
    images: int
    average_precision: Interval | None
    threshold: float
    precision: float | None
    recall: Interval | None
    f1: float | None


@dataclass(frozen=True)
class MultilabelMetrics:
    """Metrics of a multi-label classifier, in [0, 1] except for the loss.

    Attributes:
        mean_average_precision: mean over the labels that some image has (bootstrap); None if there are none.
        chance_level: expected mean average precision of a random ranking: the mean share of images per label.
        macro_f1: mean F1 of the labels that are true or assigned for some image (bootstrap); None if there are none.
        micro_f1: F1 of all labels of all images pooled (bootstrap); None like `macro_f1`.
        exact_match: share of images whose set of labels is exactly right (Wilson).
        loss: mean negative log-likelihood over images and labels in nats.
    """

    images: int
    mean_average_precision: Interval | None
    chance_level: float
    macro_f1: Interval | None
    micro_f1: Interval | None
    exact_match: Interval
    loss: float
    per_label: tuple[LabelMetrics, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as plain JSON types."""
        from pydantic import TypeAdapter

        return TypeAdapter(MultilabelMetrics).dump_python(self, mode="json")


def compute_multilabel_metrics(
    probabilities: Tensor, targets: Tensor, names: Sequence[str], thresholds: Sequence[float]
) -> MultilabelMetrics:
    """Return the metrics of predicted probabilities.

    Args:
        probabilities: (N, labels), in [0, 1].
        targets: (N, labels), bools: which image has which label.

    Raises:
        DataError: if there are no images.
        ValueError: for other shapes or ranges.
    """
    scores, truth = _checked_arrays(probabilities, targets)
    images, width = scores.shape
    if width != len(names) or len(names) != len(thresholds):
        raise ValueError(
            f"expected a name and a threshold for each of {width} labels, got {len(names)} names and "
            f"{len(thresholds)} thresholds"
        )
    assigned = scores >= np.asarray(thresholds)
    hits, positives, predictions = (assigned & truth).sum(axis=0), truth.sum(axis=0), assigned.sum(axis=0)
    ranked = [RankedImages(scores[:, label], truth[:, label]) for label in range(width)]

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        precisions = np.stack([label.average_precision(weights) for label in ranked], axis=1)
        correct, either = weights @ (assigned & truth), weights @ (assigned.astype(float) + truth)
        macro = nan_mean(np.where(either > 0, 2 * correct / np.maximum(either, 1), np.nan))
        total = either.sum(axis=1)
        micro = np.where(total > 0, 2 * correct.sum(axis=1) / np.maximum(total, 1), np.nan)
        return np.column_stack([nan_mean(precisions), macro, micro, precisions])

    overall, macro, micro, *by_label = bootstrap_images(statistic, images, work=4 * width)
    present = positives > 0
    likelihood = np.clip(np.where(truth, scores, 1 - scores), np.finfo(np.float32).tiny, 1)
    return MultilabelMetrics(
        images=images,
        mean_average_precision=overall,
        chance_level=float((positives[present] / images).mean()) if present.any() else 0.0,
        macro_f1=macro,
        micro_f1=micro,
        exact_match=wilson_interval(int((assigned == truth).all(axis=1).sum()), images),
        loss=float(-np.log(likelihood).mean()),
        per_label=tuple(
            LabelMetrics(
                name=name,
                images=count,
                average_precision=precision,
                threshold=threshold,
                precision=hit / predicted if predicted else None,
                recall=wilson_interval(hit, count) if count else None,
                f1=2 * hit / (count + predicted) if count + predicted else None,
            )
            for name, count, precision, threshold, hit, predicted in zip(
                names, positives.tolist(), by_label, thresholds, hits.tolist(), predictions.tolist(), strict=True
            )
        ),
    )


def fit_thresholds(probabilities: Tensor, targets: Tensor) -> list[float]:
    """Return each label's F1-optimal threshold; 0.5 if all images, or fewer than `MIN_POSITIVES`, have the label.

    A threshold is halfway between the last probability at which the label should be assigned and the next lower one.
    Arguments are as for `compute_multilabel_metrics`; use images that the model was not trained on.
    """
    scores, truth = _checked_arrays(probabilities, targets)
    return [_fit_threshold(scores[:, label], truth[:, label]) for label in range(scores.shape[1])]


def _fit_threshold(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    positives = int(truth.sum())
    if positives < MIN_POSITIVES or positives == len(truth):
        return 0.5
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    # A threshold cannot separate equal probabilities, and at 0 nothing is assigned.
    ends = np.flatnonzero(np.append(ranked[:-1] > ranked[1:], True) & (ranked > 0))
    if not len(ends):
        return 0.5
    f1 = 2 * np.cumsum(truth[order])[ends] / (ends + 1 + positives)
    best = ends[int(f1.argmax())]
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    # The mean of adjacent floating-point numbers may round down to the lower one.
    middle = float((ranked[best] + below) / 2)
    return middle if below < middle else float(ranked[best])


class RankedImages:
    """Images ranked by the probability of one label, to compute its average precision for weighted images.

    Equal to `sklearn.metrics.average_precision_score`, and about 15 times faster for 1,000 resamples of 2,000 images.
    """

    def __init__(self, scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> None:
        self.order = np.argsort(-scores, kind="stable")
        self.truth = truth[self.order].astype(float)
        ranked = scores[self.order]
        self.ends = np.flatnonzero(np.append(ranked[:-1] > ranked[1:], True))

    def average_precision(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the average precision for each row of weights (R, images), (R,); NaN if no image has the label."""
        ranked = weights[:, self.order]
        assigned = np.cumsum(ranked, axis=1)[:, self.ends]
        hits = np.cumsum(ranked * self.truth, axis=1)[:, self.ends]
        rises = np.diff(hits, axis=1, prepend=0)
        area = (rises * hits / np.maximum(assigned, 1)).sum(axis=1)
        positives = hits[:, -1]
        return np.where(positives > 0, area / np.maximum(positives, 1), np.nan)


def nan_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each row without NaN, or NaN if there is none; unlike `numpy.nanmean` without a warning."""
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, values, 0).sum(axis=1) / np.maximum(count, 1), np.nan)


def _checked_arrays(probabilities: Tensor, targets: Tensor) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    if probabilities.ndim != 2 or targets.shape != probabilities.shape:
        raise ValueError(
            "probabilities and labels must have the same shape (N, labels), "
            f"got {tuple(probabilities.shape)} and {tuple(targets.shape)}"
        )
    if not len(probabilities):
        raise DataError("expected at least one image to evaluate, got none: add images to this split")
    scores = probabilities.detach().cpu().double().numpy()
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("probabilities must be finite and in [0, 1]: pass probabilities, not logits")
    return scores, targets.detach().cpu().bool().numpy()
