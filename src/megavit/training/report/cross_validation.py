"""The results of a cross-validation: its folds, and which model the bundle has."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from megavit.config.target import TargetKind
from megavit.evaluation.compare import MetricDifference
from megavit.evaluation.metrics.bootstrap import Interval
from megavit.evaluation.metrics.dispatch import METRIC_NAMES, Metrics
from megavit.evaluation.metrics.significance import SIGNIFICANCE_LEVEL
from megavit.evaluation.report.summary import describe_primary
from megavit.evaluation.report.text import format_difference, format_interval, format_p_value


@dataclass(frozen=True, kw_only=True)
class FoldResult:
    """A fold: the folder of its run, and how good its model is on the fold's images.

    Attributes:
        images: number of its images by split; those of the fold are for test.
        metric: primary metric on the fold's images; None if it is undefined.
    """

    fold: int
    run: str
    images: dict[str, int]
    metric: Interval | None


@dataclass(frozen=True, kw_only=True)
class EnsembleGain:
    """How much better the mean of several models' outputs is than one of them, on images that none was trained on.

    Attributes:
        models: number of models that were averaged: two, or those of all folds if the data defines validation images.
        images: number of images; the epoch and the calibration of a model were chosen by some of them.
        single: mean of the models' primary metrics.
        mean: primary metric of the mean of their outputs.
        difference: by how much `mean` is better, with its paired bootstrap interval.
        p_value: p-value of a sign test over the images that exactly one of two models predicts correctly; None for
            other targets and numbers of models.
    """

    models: int
    images: int
    single: float
    mean: float
    difference: Interval
    p_value: float | None

    @property
    def is_significant(self) -> bool:
        """Whether the gain is more than chance."""
        return self.difference.low > 0 and (self.p_value is None or self.p_value < SIGNIFICANCE_LEVEL)


@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """The folds of a cross-validation, and the model of the bundle.

    Attributes:
        kind: kind of target, which decides on the primary metric.
        metrics: metrics on the images of all folds, each predicted by the model that was not trained on it.
        untested: number of images that are always trained on, as their class has no other image.
        selected: fold of median quality, whose model the bundle has, or is the first of its ensemble.
        is_ensemble: whether the bundle is an ensemble of the models of all folds.
        gain: what averaging brings; None if it could not be measured, or the models differ in their sizes.
        minutes: time budget of each fold's training; None if it was by epochs.
        test: metrics of the bundle on the test images that the data defines, which are in no fold; None without any.
    """

    kind: TargetKind
    metrics: Metrics
    folds: tuple[FoldResult, ...]
    untested: int
    selected: int
    is_ensemble: bool = False
    gain: EnsembleGain | None = None
    minutes: float | None = None
    test: Metrics | None = None

    @property
    def metric(self) -> str:
        """Name of the primary metric."""
        return METRIC_NAMES[self.kind]

    @property
    def headline(self) -> str:
        """A line such as "cross-validated accuracy 93.4% (95%: 92.2% to 94.4%) on all 1,797 images"."""
        every = f"{self.metrics.images:,} images" if self.untested else f"all {self.metrics.images:,} images"
        return f"cross-validated {describe_primary(self.metrics)} on {every}"

    def describe(self) -> list[str]:
        """Return sentences on what was measured, what was not, and which model the bundle has."""
        count, values = len(self.folds), [fold.metric.value for fold in self.folds if fold.metric]
        lowest, highest = (format_value_of(self.kind, end(values)) if values else "–" for end in (min, max))
        chosen = self.folds[self.selected - 1]
        lines = [
            f"Each image was predicted by one of {count} models, which was not trained on it; {self.metric} by fold "
            f"from {lowest} to {highest}.",
        ]
        if self.gain is not None:
            lines.append(self._describe_gain(self.gain))
        if self.is_ensemble:
            lines.append(
                f"So the bundle is an ensemble: the mean of the calibrated outputs of all {count} models, which takes "
                f"{count} times as long to predict."
            )
        else:
            lines.append(
                f"{'So the' if self.gain else 'The'} bundle has one model, that of fold {self.selected}, which is of "
                f"median quality: {format_interval(self.metric, chosen.metric)} on the {chosen.images['test']:,} "
                "images of its fold."
            )
        if self.is_ensemble and self.test is None:
            lines.append(
                "The ensemble itself could not be measured, as each image was trained on by some of its models: pass "
                "new images to megavit evaluate."
            )
        if self.test is not None:
            lines.append(
                f"On the {self.test.images:,} test images that the data defines, which are in no fold, the bundle has "
                f"{describe_primary(self.test)}."
            )
        if self.minutes is not None:
            lines.append(
                f"Each model was trained for {self.minutes:.2g} minutes, the time divided by the folds. A run without "
                "--folds has all of the time for one model, which may well be better than these figures."
            )
        if self.untested:
            lines.append(f"{self.untested:,} images are the only ones of their class, so they are in no fold.")
        return lines

    def _describe_gain(self, gain: EnsembleGain) -> str:
        difference = format_difference(MetricDifference(self.metric, gain.mean, gain.single, gain.difference))
        p_value = "" if gain.p_value is None else f"; sign test: p {format_p_value(gain.p_value)}"
        verdict = "is more than chance" if gain.is_significant else "may be chance"
        few = "two of the models" if gain.models == 2 else f"the {gain.models} models"
        return (
            f"The mean of {few} is better than one by {difference} in {self.metric}{p_value}, which {verdict}: on "
            f"{gain.images:,} images that none of them was trained on, but by which epochs and calibration were chosen."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the results as plain JSON types, without the metrics of all images together."""
        return {
            "metric": self.metric,
            "folds": [asdict(fold) for fold in self.folds],
            "untested": self.untested,
            "selected": self.selected,
            "is_ensemble": self.is_ensemble,
            "minutes": self.minutes,
            "gain": asdict(self.gain) | {"is_significant": self.gain.is_significant} if self.gain else None,
            "test": self.test.to_dict() if self.test else None,
        }


def format_value_of(kind: TargetKind, value: float) -> str:
    """Return a value of the primary metric of a kind of target, such as "93.4%"."""
    return f"{value:.4g}" if kind == "regression" else f"{value:.1%}"


def find_median_fold(kind: TargetKind, metrics: Sequence[Interval | None]) -> int:
    """Return the number, from 1, of the fold of median quality; of two in the middle, the worse one.

    The best one would be chosen by chance, and its metric would be too good to be true.
    """
    sign = 1 if kind == "regression" else -1

    def badness(index: int) -> float:
        metric = metrics[index]
        return float("inf") if metric is None else sign * metric.value

    ranked = sorted(range(len(metrics)), key=badness)
    return ranked[len(ranked) // 2] + 1
