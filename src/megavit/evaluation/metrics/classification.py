"""Compute the metrics of classifiers with 95% intervals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from megavit.errors import DataError
from megavit.evaluation.metrics.bootstrap import Interval, bootstrap_counts, wilson_interval

MAX_NAMED_CLASSES = 30
"""Maximum number of classes whose names and counts a confusion matrix shows; above it is a heat map."""


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class, in [0, 1].

    Attributes:
        images: number of images whose true class it is.
        precision: precision; None if the class is never predicted.
        recall: recall with its Wilson interval; None if the class has no images.
        f1: 2 TP / (2 TP + FP + FN); None if no image has the class as truth or prediction.
    """

    name: str
    images: int
    precision: float | None
    recall: Interval | None
    f1: float | None


@dataclass(frozen=True)
class ClassificationMetrics:
    """Metrics of a classifier, in [0, 1] except for the loss.

    Attributes:
        accuracy: accuracy with its Wilson interval.
        top5: top-5 accuracy with its Wilson interval; None for five classes or fewer.
        balanced_accuracy: mean recall of the classes that have images (bootstrap).
        macro_f1: mean F1 of the classes that are true or predicted for some image (bootstrap).
        loss: mean negative log-likelihood in nats, with probabilities clamped to at least 1.2e-38.
        confusion: number of images per true class (row) and predicted class (column).
    """

    images: int
    accuracy: Interval
    top5: Interval | None
    balanced_accuracy: Interval
    macro_f1: Interval
    loss: float
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as plain JSON types.

        "confusion" lists the cells that are not zero, each as [true index, predicted index, images].
        """
        from pydantic import TypeAdapter

        plain = TypeAdapter(ClassificationMetrics).dump_python(replace(self, confusion=()), mode="json")
        cells = [
            [true, predicted, images]
            for true, row in enumerate(self.confusion)
            for predicted, images in enumerate(row)
            if images
        ]
        return {**plain, "confusion": cells}


def compute_classification_metrics(
    probabilities: Tensor, labels: Tensor, classes: Sequence[str]
) -> ClassificationMetrics:
    """Return the metrics of predicted probabilities; the first of equally probable classes is the prediction.

    Args:
        probabilities: (N, C), floating, in [0, 1], each row summing to 1 within 1e-3.
        labels: (N,), integers in [0, C).
        classes: C class names.

    Raises:
        DataError: if there are no images.
        ValueError: for other shapes, dtypes or ranges.
    """
    probabilities, labels = probabilities.detach().to("cpu"), labels.detach().to("cpu")
    _check_inputs(probabilities, labels, len(classes))
    labels = labels.to(torch.int64)
    if probabilities.dtype not in (torch.float32, torch.float64):
        probabilities = probabilities.float()
    total, width = probabilities.shape

    predicted = probabilities.argmax(dim=1)
    likelihood = probabilities.gather(1, labels[:, None])
    loss = -likelihood.double().clamp_min(torch.finfo(torch.float32).tiny).log().mean()
    confusion = torch.bincount(labels * width + predicted, minlength=width * width).view(width, width).numpy()
    hits = confusion.diagonal()
    rows, columns = confusion.nonzero()
    cells = confusion[rows, columns]
    return ClassificationMetrics(
        images=total,
        accuracy=wilson_interval(int(hits.sum()), total),
        top5=wilson_interval(_in_top5(probabilities, labels, likelihood), total) if width > 5 else None,
        balanced_accuracy=bootstrap_counts(partial(_balanced_accuracy, rows, columns, width), cells),
        macro_f1=bootstrap_counts(partial(_macro_f1, rows, columns, width), cells),
        loss=float(loss),
        per_class=tuple(
            ClassMetrics(
                name=name,
                images=images,
                precision=hit / predictions if predictions else None,
                recall=wilson_interval(hit, images) if images else None,
                f1=2 * hit / (images + predictions) if images + predictions else None,
            )
            for name, images, predictions, hit in zip(
                classes, confusion.sum(1).tolist(), confusion.sum(0).tolist(), hits.tolist(), strict=True
            )
        ),
        confusion=tuple(map(tuple, confusion.tolist())),
        classes=tuple(classes),
    )


def list_confusions(metrics: ClassificationMetrics, k: int) -> list[tuple[str, str, int]]:
    """Return the `k` most frequent confusions in descending order: (true class, predicted class, images)."""
    confused = [
        (images, true, predicted)
        for true, row in enumerate(metrics.confusion)
        for predicted, images in enumerate(row)
        if images and true != predicted
    ]
    confused.sort(key=lambda cell: (-cell[0], *cell[1:]))
    return [(metrics.classes[true], metrics.classes[predicted], images) for images, true, predicted in confused[:k]]


def _check_inputs(probabilities: Tensor, labels: Tensor, width: int) -> None:
    if probabilities.ndim != 2 or probabilities.shape[1] != width or not probabilities.is_floating_point():
        raise ValueError(
            f"probabilities must be floating, of shape (N, {width}) for {width} classes; "
            f"got {probabilities.dtype}, {tuple(probabilities.shape)}"
        )
    if labels.shape != probabilities.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(
            f"labels must be integers of shape ({len(probabilities)},), got {labels.dtype}, {tuple(labels.shape)}"
        )
    if not len(labels):
        raise DataError("expected at least one image to evaluate, got none: add images to this split")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= width:
        raise ValueError(f"labels must be in [0, {width}), got {low} to {high}")
    # Also rejects NaN, which compares false.
    if not bool(((probabilities >= 0) & (probabilities <= 1)).all()):
        raise ValueError("probabilities must be finite and in [0, 1]: pass probabilities, not logits")
    off = float((probabilities.sum(dim=1, dtype=torch.float64) - 1).abs().max())
    if off > 1e-3:
        raise ValueError(f"each row of probabilities must sum to 1 within 0.001, got one that differs by {off:.3g}")


def _in_top5(probabilities: Tensor, labels: Tensor, likelihood: Tensor) -> int:
    # Not torch.topk, whose order of ties is undefined.
    before = torch.arange(probabilities.shape[1]) < labels[:, None]
    ahead = (probabilities > likelihood) | ((probabilities == likelihood) & before)
    return int((ahead.sum(dim=1) < 5).sum())


def _by_class(group: NDArray[np.int64], width: int, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return counts (R, cells) summed over the cells of each class, (R, C); `group` (cells,) is each cell's class."""
    from scipy.sparse import csr_array

    cells = len(group)
    return counts @ csr_array((np.ones(cells, np.int64), group, np.arange(cells + 1)), shape=(cells, width))


def _balanced_accuracy(
    rows: NDArray[np.int64], columns: NDArray[np.int64], width: int, counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    right = rows == columns
    images, hits = _by_class(rows, width, counts), _by_class(rows[right], width, counts[:, right])
    return (hits / np.maximum(images, 1)).sum(axis=1) / (images > 0).sum(axis=1)


def _macro_f1(
    rows: NDArray[np.int64], columns: NDArray[np.int64], width: int, counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    right = rows == columns
    hits = _by_class(rows[right], width, counts[:, right])
    occurs = _by_class(rows, width, counts) + _by_class(columns, width, counts)
    return (2 * hits / np.maximum(occurs, 1)).sum(axis=1) / (occurs > 0).sum(axis=1)
