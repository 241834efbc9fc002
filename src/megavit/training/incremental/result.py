"""Results of changing the classes of a bundle."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from megavit.evaluation.metrics.bootstrap import Interval
from megavit.evaluation.metrics.dispatch import Metrics
from megavit.evaluation.metrics.significance import SIGNIFICANCE_LEVEL
from megavit.evaluation.report.summary import percent
from megavit.evaluation.uncertainty.uncertainty import UncertaintyMetrics

MAX_LOSS = 0.05
"""Largest loss of accuracy on the former classes for which no training is advised; any new class costs some."""


@dataclass(frozen=True)
class AddedClass:
    """A class that was added to a bundle, or got more images.

    Attributes:
        images: number of new images in each split.
        is_new: whether the bundle did not have the class before.
        recall: share of the new images that are recognized by a head that was not fitted on them; None if there are
            too few to tell.
        nearest_class: other class that it is told from least; None if unknown.
        told_apart: share of the images of both that get the right one of the two, on average over the two.
        is_separable: whether the features, which were trained without the class, suffice to tell them; None if unknown.
    """

    name: str
    images: dict[str, int]
    is_new: bool
    recall: Interval | None
    nearest_class: str | None
    told_apart: float | None
    is_separable: bool | None


@dataclass(frozen=True)
class ClassAddition:
    """A bundle to which classes, or images of its classes, were added.

    Attributes:
        folder: folder of the new bundle.
        added: the classes that were added, or got more images.
        metrics: metrics on the test images of all classes.
        uncertainty: metrics of the new calibration on them.
        before, after: accuracy on the test images of the former classes, of the former bundle and of the new one.
        p_value: p-value of the hypothesis that they are equal (McNemar's test).
        notes: sentences on images that were left out.
    """

    folder: Path
    added: tuple[AddedClass, ...]
    metrics: Metrics
    uncertainty: UncertaintyMetrics
    before: Interval
    after: Interval
    p_value: float
    notes: tuple[str, ...]

    def __fspath__(self) -> str:
        return os.fspath(self.folder)

    @property
    def advice(self) -> tuple[str, ...]:
        """Sentences on why the model should be trained on all classes; none if it need not be."""
        lines = [
            f"{one.name!r} is not separable from {one.nearest_class!r} with these features: of both, only "
            f"{percent(one.told_apart)} get the right one of the two. Train with the images of all classes"
            for one in self.added
            if one.is_separable is False
        ]
        if self.p_value < SIGNIFICANCE_LEVEL and self.after.value < self.before.value - MAX_LOSS:
            lines.append(
                f"the former classes are recognized less than before, {percent(self.before)} then and "
                f"{percent(self.after)} now. Train with the images of all classes"
            )
        return tuple(lines)

    @property
    def needs_training(self) -> bool:
        """Whether there is any `advice`."""
        return bool(self.advice)

    def to_dict(self) -> dict[str, Any]:
        """Return the results as plain JSON types."""
        plain = {
            "added": [asdict(one) for one in self.added],
            "metrics": self.metrics.to_dict(),
            "uncertainty": self.uncertainty.to_dict(),
            "former_classes": {"before": asdict(self.before), "after": asdict(self.after), "p_value": self.p_value},
            "needs_training": self.needs_training,
            "advice": list(self.advice),
            "notes": list(self.notes),
        }
        return {"out": str(self.folder)} | plain


@dataclass(frozen=True)
class ClassRemoval:
    """A bundle from which classes were removed.

    Attributes:
        folder: folder of the new bundle.
        removed: names of the removed classes.
        metrics: metrics on the test images of the other classes.
        uncertainty: metrics of the new calibration on them.
    """

    folder: Path
    removed: tuple[str, ...]
    metrics: Metrics
    uncertainty: UncertaintyMetrics

    def __fspath__(self) -> str:
        return os.fspath(self.folder)

    def to_dict(self) -> dict[str, Any]:
        """Return the results as plain JSON types."""
        return {
            "out": str(self.folder),
            "removed": list(self.removed),
            "metrics": self.metrics.to_dict(),
            "uncertainty": self.uncertainty.to_dict(),
        }
