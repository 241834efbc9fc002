"""The result of a training run: where it was written, and how good it is."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from megavit.evaluation.metrics.dispatch import Metrics
from megavit.evaluation.report.summary import headline, list_uncertainty
from megavit.evaluation.uncertainty.measure import UncertaintyMetrics
from megavit.page import inline
from megavit.predict.predictor import Predictor, load
from megavit.training.history import PseudoLabelSummary
from megavit.training.report.baselines import BaselineSummary, describe_baselines
from megavit.training.report.cross_validation import CrossValidation


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished training run, which stands for its folder wherever a bundle is expected.

    Attributes:
        folder: folder of the run.
        bundle: folder of the trained model, within `folder`.
        report: path of the report, an HTML file; None if none was asked for.
        metrics: metrics on the test images, with their 95% confidence intervals; of a cross-validation, those of all
            images, each predicted by the model that was not trained on it.
        uncertainty: calibration error, coverage of prediction sets and false alarms, on the test images.
        baselines: accuracies of simple methods on the same images; None unless each image has one class.
        cross_validation: results of the folds, and which of their models the bundle has; None for a single run.
        pseudo_labels: what became of images without labels, and what they brought; None without any.
    """

    folder: Path
    bundle: Path
    report: Path | None
    metrics: Metrics = field(repr=False)
    uncertainty: UncertaintyMetrics = field(repr=False)
    baselines: BaselineSummary | None = field(default=None, repr=False)
    cross_validation: CrossValidation | None = field(default=None, repr=False)
    pseudo_labels: PseudoLabelSummary | None = field(default=None, repr=False)

    @property
    def headline(self) -> str:
        """A line on the primary metric, with its 95% confidence interval."""
        return headline(self.metrics) if self.cross_validation is None else self.cross_validation.headline

    def load(self, *, device: str = "auto", precision: str = "float32") -> Predictor:
        """Load the trained model as `megavit.load` does."""
        return load(self.bundle, device=device, precision=precision)

    def _repr_html_(self) -> str:
        """Return the results for a notebook."""
        uncertainty = list_uncertainty(self.uncertainty)
        baselines = [inline.line(describe_baselines(self.baselines))] if self.baselines else []
        if self.baselines and self.baselines.warning:
            baselines.append(inline.warning(f"{self.baselines.warning} {self.baselines.advice or ''}"))
        report = [("report", str(self.report))] if self.report else []
        return inline.block(
            inline.heading(self.headline),
            *(inline.line(text) for text in (self.cross_validation.describe() if self.cross_validation else [])),
            *(inline.line(text) for text in (self.pseudo_labels.describe() if self.pseudo_labels else [])),
            *baselines,
            inline.table([*uncertainty, *report, ("bundle", str(self.bundle))]),
        )

    def __fspath__(self) -> str:
        return os.fspath(self.folder)

    def to_dict(self) -> dict[str, Any]:
        """Return the paths and results as plain JSON types."""
        return {
            "run": str(self.folder),
            "bundle": str(self.bundle),
            "report": str(self.report) if self.report else None,
            "test": self.metrics.to_dict(),
            "uncertainty": self.uncertainty.to_dict(),
            "baselines": self.baselines.to_dict() if self.baselines else None,
            "cross_validation": self.cross_validation.to_dict() if self.cross_validation else None,
            "pseudo_labels": self.pseudo_labels.to_dict() if self.pseudo_labels else None,
        }
