"""How good labels are: several on an image, each right or wrong by itself, every figure with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from megavit.errors import DataError
from megavit.evaluate.metrics.bootstrap import Interval, bootstrap_images, wilson_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_POSITIVES = 5
"""Images with a label, below which a threshold fitted to them would be chance."""


@dataclass(frozen=True)
class LabelMetrics:
    """One label by itself; shares in [0, 1].

    Attributes:
        images: that have it.
        average_precision: area under precision over recall (bootstrap); None where no image has the label.
        threshold: the probability from which on it is given.
        precision: share of the images given this label that have it; None where it was given to none.
        recall: share of the images with this label that were given it (Wilson); None where no image has it.
        f1: 2 TP / (2 TP + FP + FN); None where no image has it or was given it.
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
    """What `compute_multilabel_metrics` found; shares in [0, 1].

    Attributes:
        images: number of images measured.
        mean_average_precision: over the labels that some image has (bootstrap); None where there are none.
        chance: what mean_average_precision would be for a random order of the images: the labels' mean share.
        macro_f1: mean F1, at the thresholds, of the labels that occur among truth or answers (bootstrap).
        micro_f1: F1 of all labels of all images together (bootstrap); like macro_f1, None where none occurs.
        exact: share of the images whose labels are all right and complete (Wilson).
        loss: mean over images and labels of the negative log-likelihood in nats.
        per_label: one for each label, in order.
    """

    images: int
    mean_average_precision: Interval | None
    chance: float
    macro_f1: Interval | None
    micro_f1: Interval | None
    exact: Interval
    loss: float
    per_label: tuple[LabelMetrics, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        from pydantic import TypeAdapter

        return TypeAdapter(MultilabelMetrics).dump_python(self, mode="json")


def compute_multilabel_metrics(
    probabilities: Tensor, present: Tensor, names: Sequence[str], thresholds: Sequence[float]
) -> MultilabelMetrics:
    """Compare answers with the truth.

    Args:
        probabilities: (N, labels), in [0, 1].
        present: (N, labels), bool: which image has which label.
        names, thresholds: of the labels.

    Raises:
        DataError: there are no images.
        ValueError: shapes or ranges are other than these.
    """
    shares, truth = _checked(probabilities, present)
    if shares.shape[1] != len(names) or len(names) != len(thresholds):
        raise ValueError(f"expected a name and a threshold for each of {shares.shape[1]} labels")
    images, width = shares.shape
    given = shares >= np.asarray(thresholds)
    hits, cases, answers = (given & truth).sum(axis=0), truth.sum(axis=0), given.sum(axis=0)
    ranks = [Ranking(shares[:, label], truth[:, label]) for label in range(width)]

    def statistic(drawn: "NDArray[np.float64]") -> "NDArray[np.float64]":
        precisions = np.stack([rank.average_precision(drawn) for rank in ranks], axis=1)
        right, either = drawn @ (given & truth), drawn @ (given.astype(float) + truth)
        macro = nan_mean(np.where(either > 0, 2 * right / np.maximum(either, 1), np.nan))
        total = either.sum(axis=1)
        micro = np.where(total > 0, 2 * right.sum(axis=1) / np.maximum(total, 1), np.nan)
        return np.column_stack([nan_mean(precisions), macro, micro, precisions])

    overall, macro, micro, *by_label = bootstrap_images(statistic, images, work=4 * width)
    known = cases > 0
    likelihood = np.clip(np.where(truth, shares, 1 - shares), np.finfo(np.float32).tiny, 1)
    return MultilabelMetrics(
        images=images,
        mean_average_precision=overall,
        chance=float((cases[known] / images).mean()) if known.any() else 0.0,
        macro_f1=macro,
        micro_f1=micro,
        exact=wilson_interval(int((given == truth).all(axis=1).sum()), images),
        loss=float(-np.log(likelihood).mean()),
        per_label=tuple(
            LabelMetrics(
                name=name,
                images=case,
                average_precision=precision,
                threshold=threshold,
                precision=hit / answer if answer else None,
                recall=wilson_interval(hit, case) if case else None,
                f1=2 * hit / (case + answer) if case + answer else None,
            )
            for name, case, precision, threshold, hit, answer in zip(
                names, cases.tolist(), by_label, thresholds, hits.tolist(), answers.tolist(), strict=True
            )
        ),
    )


def fit_thresholds(probabilities: Tensor, present: Tensor) -> list[float]:
    """For each label the threshold with the highest F1; 0.5 where fewer than five images have it, or all do.

    It lies half-way between the last probability that should be given the label and the first that should not, so
    that it holds for new images too. Arguments are as for `compute_multilabel_metrics`; use images that were not
    trained on.
    """
    shares, truth = _checked(probabilities, present)
    return [_best_threshold(shares[:, label], truth[:, label]) for label in range(shares.shape[1])]


def _best_threshold(shares: "NDArray[np.float64]", truth: "NDArray[np.bool_]") -> float:
    cases = int(truth.sum())
    if cases < MIN_POSITIVES or cases == len(truth):
        return 0.5
    order = np.argsort(-shares, kind="stable")
    ranked = shares[order]
    # A threshold cannot part equal probabilities, and nothing is given at 0.
    ends = np.flatnonzero(np.append(ranked[:-1] > ranked[1:], True) & (ranked > 0))
    if not len(ends):
        return 0.5
    f1 = 2 * np.cumsum(truth[order])[ends] / (ends + 1 + cases)
    best = ends[int(f1.argmax())]
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    # Between two neighbors of the floating-point numbers the mean may be the lower one, and would give it too.
    middle = float((ranked[best] + below) / 2)
    return middle if below < middle else float(ranked[best])


class Ranking:
    """The images from the likeliest to the least likely one for a label, to weigh them anew for each resample."""

    def __init__(self, shares: "NDArray[np.float64]", truth: "NDArray[np.bool_]") -> None:
        self.order = np.argsort(-shares, kind="stable")
        self.truth = truth[self.order].astype(float)
        ranked = shares[self.order]
        self.ends = np.flatnonzero(np.append(ranked[:-1] > ranked[1:], True))

    def average_precision(self, drawn: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """(R,): sum of precision times the rise in recall, of equal probabilities together; NaN without the label."""
        times = drawn[:, self.order]
        given = np.cumsum(times, axis=1)[:, self.ends]
        hits = np.cumsum(times * self.truth, axis=1)[:, self.ends]
        rises = np.diff(hits, axis=1, prepend=0)
        area = (rises * hits / np.maximum(given, 1)).sum(axis=1)
        cases = hits[:, -1]
        return np.where(cases > 0, area / np.maximum(cases, 1), np.nan)


def nan_mean(values: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """The mean of each row's numbers; NaN where it has none."""
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, values, 0).sum(axis=1) / np.maximum(count, 1), np.nan)


def _checked(probabilities: Tensor, present: Tensor) -> "tuple[NDArray[np.float64], NDArray[np.bool_]]":
    if probabilities.ndim != 2 or present.shape != probabilities.shape:
        raise ValueError(
            "probabilities and labels must be of the same shape (N, labels), "
            f"got {tuple(probabilities.shape)} and {tuple(present.shape)}"
        )
    if not len(probabilities):
        raise DataError("expected at least one image to measure, got none; add images to this split")
    shares = probabilities.detach().cpu().double().numpy()
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError("probabilities must be finite and in [0, 1]; give probabilities, not logits")
    return shares, present.detach().cpu().bool().numpy()
