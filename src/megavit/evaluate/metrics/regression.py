"""How good scores are, every figure with its interval, beside what knows nothing of the images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from megavit.errors import DataError
from megavit.evaluate.metrics.bootstrap import Interval, bootstrap_images

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class RegressionMetrics:
    """What `compute_regression_metrics` found, in the unit of the scores; intervals by the bootstrap.

    Attributes:
        images: number of images measured.
        mae: mean absolute error.
        rmse: root of the mean squared error.
        r2: share of the variance explained, at most 1; None where all true scores are equal.
        spearman: correlation of the ranks, in [-1, 1]; None where all true scores, or all answers, are equal.
        median, mean: of the training images' scores; where those are not known, of these images'.
        baseline_mae: mae of always saying `median`.
        baseline_rmse: rmse of always saying `mean`.
        lowest, highest: of the true scores.
        of_training: whether `median` and `mean` are of the training images.
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
    lowest: float
    highest: float
    of_training: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        from pydantic import TypeAdapter

        return TypeAdapter(RegressionMetrics).dump_python(self, mode="json")


def compute_regression_metrics(
    answers: Tensor, scores: Tensor, *, mean: float | None = None, median: float | None = None
) -> RegressionMetrics:
    """Compare answers with the truth.

    Args:
        answers, scores: (N,), finite.
        mean, median: of the training images' scores; None takes those of `scores`.

    Raises:
        DataError: there are no images.
        ValueError: shapes are other than these, or a number is not finite.
    """
    if answers.ndim != 1 or answers.shape != scores.shape:
        raise ValueError(
            f"answers and scores must be of one shape (N,), got {tuple(answers.shape)}, {tuple(scores.shape)}"
        )
    if not len(scores):
        raise DataError("expected at least one image to measure, got none; add images to this split")
    said, truth = (values.detach().cpu().double().numpy() for values in (answers, scores))
    if not (np.isfinite(said).all() and np.isfinite(truth).all()):
        raise ValueError("answers and scores must be finite numbers")
    of_training = mean is not None and median is not None
    mean = float(truth.mean()) if mean is None else mean
    median = float(np.median(truth)) if median is None else median
    absolute, squared = np.abs(said - truth), np.square(said - truth)
    # Around their mean, for the sum of squares loses digits of large numbers.
    centered = truth - truth.mean()
    equal, constant = bool((truth == truth[0]).all()), bool((said == said[0]).all())
    true_ranks, said_ranks = _Ranks(truth), _Ranks(said)
    images = len(truth)

    def statistic(drawn: "NDArray[np.float64]") -> "NDArray[np.float64]":
        mse = drawn @ squared / images
        variance = drawn @ np.square(centered) / images - np.square(drawn @ centered / images)
        r2 = np.full(len(drawn), np.nan) if equal else 1 - _ratio(mse, variance)
        spearman = np.full(len(drawn), np.nan)
        if not equal and not constant:
            spearman = _correlation(true_ranks.of(drawn), said_ranks.of(drawn), drawn)
        return np.column_stack([drawn @ absolute / images, np.sqrt(mse), r2, spearman])

    mae, rmse, r2, spearman = bootstrap_images(statistic, images, work=8)
    assert mae is not None and rmse is not None  # they are numbers of any images
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
        lowest=float(truth.min()),
        highest=float(truth.max()),
        of_training=of_training,
    )


class _Ranks:
    """Ranks of values when each image counts as often as it was drawn; equal values share their middle rank."""

    def __init__(self, values: "NDArray[np.float64]") -> None:
        _, self.group = np.unique(values, return_inverse=True)
        self.order = np.argsort(self.group, kind="stable")
        self.starts = np.flatnonzero(np.diff(self.group[self.order], prepend=-1))

    def of(self, drawn: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """(R, N)."""
        times = np.add.reduceat(drawn[:, self.order], self.starts, axis=1)
        return (np.cumsum(times, axis=1) - (times - 1) / 2)[:, self.group]


def _correlation(
    one: "NDArray[np.float64]", other: "NDArray[np.float64]", drawn: "NDArray[np.float64]"
) -> "NDArray[np.float64]":
    """Pearson's (R,), each image counting as often as it was drawn."""
    total = drawn.sum(axis=1, keepdims=True)
    one = one - (drawn * one).sum(axis=1, keepdims=True) / total
    other = other - (drawn * other).sum(axis=1, keepdims=True) / total
    spread = np.sqrt((drawn * one**2).sum(axis=1) * (drawn * other**2).sum(axis=1))
    return np.clip(_ratio((drawn * one * other).sum(axis=1), spread), -1, 1)


def _ratio(above: "NDArray[np.float64]", below: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """NaN where a resample drew equal values only, and nothing can be told."""
    told = below > 1e-12 * max(1e-300, float(below.max()))
    return np.where(told, above / np.where(told, below, 1), np.nan)
