"""The results of a cross-validation: its folds, and which model the bundle has."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from megavit.config.target import TargetKind
from megavit.evaluation.metrics.bootstrap import Interval
from megavit.evaluation.metrics.dispatch import METRIC_NAMES, Metrics
from megavit.evaluation.report.summary import describe_primary
from megavit.evaluation.report.text import format_interval


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
class CrossValidation:
    """The folds of a cross-validation, and the model of the bundle.

    Attributes:
        kind: kind of target, which decides on the primary metric.
        metrics: metrics on the images of all folds, each predicted by the model that was not trained on it.
        untested: number of images that are always trained on, as their class has no other image.
        selected: fold whose model the bundle has: that of median quality.
        test: metrics of the bundle on the test images that the data defines, which are in no fold; None without any.
    """

    kind: TargetKind
    metrics: Metrics
    folds: tuple[FoldResult, ...]
    untested: int
    selected: int
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
            f"The bundle has the model of fold {self.selected}, which is of median quality: "
            f"{format_interval(self.metric, chosen.metric)} on the {chosen.images['test']:,} images of its fold.",
        ]
        if self.test is not None:
            lines.append(
                f"On the {self.test.images:,} test images that the data defines, which are in no fold, the bundle has "
                f"{describe_primary(self.test)}."
            )
        if self.untested:
            lines.append(f"{self.untested:,} images are the only ones of their class, so they are in no fold.")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return the results as plain JSON types, without the metrics of all images together."""
        return {
            "metric": self.metric,
            "folds": [asdict(fold) for fold in self.folds],
            "untested": self.untested,
            "selected": self.selected,
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
