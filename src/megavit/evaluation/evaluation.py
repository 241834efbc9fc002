"""Evaluate a bundle: metrics, comparison with another bundle, subgroups and robustness."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from megavit.config.calibration import Calibration
from megavit.data.dataset import LabeledImages
from megavit.data.scan import Progress
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
from megavit.evaluation.robustness.robustness import Robustness, compute_robustness
from megavit.evaluation.subgroups import Subgroups, compute_subgroups, read_group_values
from megavit.evaluation.uncertainty.uncertainty import UncertaintyMetrics, compute_uncertainty
from megavit.predict.predictor import Predictor

ProgressFactory = Callable[[str], AbstractContextManager[Progress]]
"""Makes a progress callback from a description of the work."""


@dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation of a bundle, and of its comparison with another bundle.

    Attributes:
        outputs: the bundle's outputs for `selection.samples`, in order.
        comparison: None without another bundle.
        disagreements: images for which the two bundles predict differently.
        subgroups: metrics by the values of a table column; None if no column was given.
        robustness: metric under corruptions; None if it was not requested or no image has a label.
    """

    images: LabeledImages
    selection: SplitSelection
    outputs: Tensor
    metrics: Metrics
    calibration: Calibration
    uncertainty: UncertaintyMetrics
    comparison: Comparison | None
    disagreements: tuple[Disagreement, ...]
    subgroups: Subgroups | None
    robustness: Robustness | None

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
            result["comparison"] = {**self.comparison.to_dict(), "disagreements": len(self.disagreements)}
        if self.subgroups is not None:
            result["subgroups"] = self.subgroups.to_dict()
        if self.robustness is not None:
            result["robustness"] = self.robustness.to_dict()
        return result


def evaluate(
    predictor: Predictor,
    images: LabeledImages,
    selection: SplitSelection,
    *,
    other: Predictor | None,
    group_by: str | None,
    corruptions: bool,
    batch_size: int,
    make_progress: ProgressFactory,
) -> Evaluation:
    """Evaluate the predictor on the selected images.

    Args:
        selection: images that neither the predictor nor `other` was trained on, with the predictor's class indices.
        other: predictor to compare with; `check_comparable` must have passed.
        group_by: table column that defines subgroups.
        corruptions: whether to evaluate corrupted images too.

    Raises:
        DataError: if a model does not take the images' channels, an image can no longer be read, or (before any
            inference) the column does not define groups.
    """
    samples, target, labels = selection.samples, predictor.info.target, predictor.labels
    groups = None if group_by is None else read_group_values(images.source, group_by, samples)
    targets = target_tensor(samples, predictor.target, len(labels))
    with make_progress("evaluating") as progress:
        output = run_inference(predictor, images, samples, batch_size, progress)
    outputs = predictor.calibrator.outputs(output.logits)
    comparison, disagreements, subgroups, robustness = None, [], None, None
    if other is not None:
        with make_progress("evaluating the other bundle") as progress:
            other_outputs = other.calibrator.outputs(run_inference(other, images, samples, batch_size, progress).logits)
        aligned, other_target = align_outputs(labels, other, other_outputs)
        pair = PairedOutputs(outputs, aligned, targets, target, other_target)
        comparison, disagreements = compare_outputs(pair), find_disagreements(pair, labels, samples)
    if group_by is not None and groups is not None:
        subgroups = compute_subgroups(group_by, groups, outputs, targets, predictor.target)
    if corruptions:
        with make_progress("evaluating corrupted images") as progress:
            robustness = compute_robustness(predictor, images, samples, batch_size, progress)
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
