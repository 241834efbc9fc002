"""Evaluate a bundle: metrics, comparison with another bundle, subgroups and robustness."""

import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from megavit.config.calibration import Calibration
from megavit.data.dataset import LabeledImages
from megavit.data.group_column import GroupColumn
from megavit.data.scan import NamedProgress
from megavit.data.targets import target_tensor
from megavit.evaluation.compare import (
    Comparison,
    Disagreement,
    PairedOutputs,
    align_outputs,
    compare_outputs,
    find_disagreements,
)
from megavit.evaluation.inference import SplitSelection, run_inference
from megavit.evaluation.metrics.dispatch import Metrics, compute_metrics
from megavit.evaluation.report.summary import headline, list_metrics, list_uncertainty
from megavit.evaluation.report.text import describe_comparison, describe_subgroups, format_interval
from megavit.evaluation.robustness.robustness import Robustness, compute_robustness
from megavit.evaluation.subgroups import Subgroups, compute_subgroups, select_groups
from megavit.evaluation.uncertainty.measure import UncertaintyMetrics, compute_uncertainty
from megavit.page import inline
from megavit.predict.predictor import Predictor


@dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation of a bundle, and of its comparison with another bundle.

    Attributes:
        outputs: the bundle's outputs for `selection.samples`, in order.
        comparison: None without another bundle.
        disagreements: images for which the two bundles predict differently.
        subgroups: metrics by the values of a table column; None if no column was given.
        robustness: metric under corruptions; None if it was not requested or no image has a label.
        bundle, against: the bundles as the user named them; `against` is "" if there is no other.
        precision: precision of the matrix products.
    """

    images: LabeledImages = field(repr=False)
    selection: SplitSelection = field(repr=False)
    outputs: Tensor = field(repr=False)
    metrics: Metrics
    calibration: Calibration = field(repr=False)
    uncertainty: UncertaintyMetrics = field(repr=False)
    comparison: Comparison | None
    disagreements: tuple[Disagreement, ...] = field(repr=False)
    subgroups: Subgroups | None
    robustness: Robustness | None
    bundle: str = ""
    against: str = ""
    precision: str = "float32"

    def to_dict(self) -> dict[str, Any]:
        """Return the evaluation as plain JSON types, without what was not requested."""
        result: dict[str, Any] = {
            "target": self.images.target,
            "metrics": self.metrics.to_dict(),
            "uncertainty": self.uncertainty.to_dict(),
            "data": {
                "source": self.images.source,
                "split": self.selection.split,
                "excluded_as_seen_in_training": self.selection.excluded,
                "skipped": self.images.skipped_by_reason(),
            },
        }
        if self.comparison is not None:
            result["comparison"] = {
                **self.comparison.to_dict(),
                "disagreements": len(self.disagreements),
                "against": self.against,
            }
        if self.subgroups is not None:
            result["subgroups"] = self.subgroups.to_dict()
        if self.robustness is not None:
            result["robustness"] = self.robustness.to_dict()
        return result

    def _repr_html_(self) -> str:
        """Return the results for a notebook."""
        rows = [*list_metrics(self.metrics), *list_uncertainty(self.uncertainty)]
        sentences = []
        if self.comparison is not None:
            sentences += [f"A {self.bundle}, B {self.against}", describe_comparison(self.comparison)]
        if self.subgroups is not None:
            sentences.append(describe_subgroups(self.subgroups))
        if self.robustness is not None:
            metric = self.robustness.metric
            sentences.append(f"corrupted images on average: {metric} {format_interval(metric, self.robustness.mean)}")
        return inline.block(inline.heading(headline(self.metrics)), inline.table(rows), *map(inline.line, sentences))

    def write_report(self, path: str | os.PathLike[str]) -> Path:
        """Write an HTML page with all metrics and the worst errors, and return its path.

        Raises:
            ImageError: if an image to be shown can no longer be read.
            OutputError: if the page cannot be written.
        """
        from megavit.evaluation.report.page import write_evaluation_report

        return write_evaluation_report(Path(path), self)


def evaluate(
    predictor: Predictor,
    images: LabeledImages,
    selection: SplitSelection,
    *,
    other: Predictor | None,
    group_by: GroupColumn | None,
    corruptions: bool,
    batch_size: int,
    progress: NamedProgress,
) -> Evaluation:
    """Evaluate the predictor on the selected images.

    Args:
        selection: images that neither the predictor nor `other` was trained on, with the predictor's class indices.
        other: predictor to compare with; `check_comparable` must have passed.
        group_by: column that defines subgroups.
        corruptions: whether to evaluate corrupted images too.

    Raises:
        DataError: if a model does not take the images' channels, an image can no longer be read, or (before any
            inference) the column does not define groups.
    """
    samples, target, labels = selection.samples, predictor.info.target, predictor.labels
    groups = None if group_by is None else select_groups(group_by, samples)
    targets = target_tensor(samples, predictor.target, len(labels))
    output = run_inference(predictor, images, samples, batch_size, partial(progress, "evaluating"))
    outputs = predictor.calibrator.outputs(output.logits)
    comparison, disagreements, subgroups, robustness = None, [], None, None
    if other is not None:
        second = partial(progress, "evaluating the other bundle")
        other_outputs = other.calibrator.outputs(run_inference(other, images, samples, batch_size, second).logits)
        aligned, other_target = align_outputs(labels, other, other_outputs)
        pair = PairedOutputs(outputs, aligned, targets, target, other_target)
        comparison, disagreements = compare_outputs(pair), find_disagreements(pair, labels, samples)
    if group_by is not None and groups is not None:
        subgroups = compute_subgroups(group_by.name, groups, outputs, targets, predictor.target)
    if corruptions:
        corrupted = partial(progress, "evaluating corrupted images")
        robustness = compute_robustness(predictor, images, samples, batch_size, corrupted)
    return Evaluation(
        images=images,
        selection=selection,
        outputs=outputs,
        metrics=compute_metrics(outputs, targets, labels, target),
        calibration=predictor.info.calibration,
        uncertainty=compute_uncertainty(predictor.calibrator, output, targets),
        comparison=comparison,
        disagreements=tuple(disagreements),
        subgroups=subgroups,
        robustness=robustness,
    )
