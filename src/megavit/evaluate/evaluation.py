"""All that one evaluation may ask of a bundle: its metrics, another bundle beside it, groups, corruptions."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from megavit.config.calibration import Calibration
from megavit.data.dataset import LabeledImages
from megavit.data.scan import Progress
from megavit.data.targets import targets_of
from megavit.evaluate.compare import Comparison, Disagreement, align_outputs, compare_outputs, find_disagreements
from megavit.evaluate.inference import SplitSelection, run_inference
from megavit.evaluate.metrics.dispatch import Metrics, compute_metrics
from megavit.evaluate.robustness.robustness import Robustness, compute_robustness
from megavit.evaluate.subgroups import Subgroups, compute_subgroups, read_group_values
from megavit.evaluate.uncertainty.uncertainty import UncertaintyMetrics, compute_uncertainty
from megavit.predict.predictor import Predictor

ProgressFactory = Callable[[str], AbstractContextManager[Progress]]
"""Says what is being done, and gives the function to be told how far it has come."""


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Attributes:
        images, choice: measured on.
        answers: of the bundle, for `choice.samples` in order.
        metrics: of the bundle.
        fitted: what makes its answers trustworthy.
        trust: how far they can be trusted.
        comparison: with the other bundle; None without one.
        changed: the images that the two answer otherwise.
        groups: by a column of the table; None where none was named.
        robustness: under corruptions; None where it was not asked for, or no image has a label.
    """

    images: LabeledImages
    choice: SplitSelection
    answers: Tensor
    metrics: Metrics
    fitted: Calibration
    trust: UncertaintyMetrics
    comparison: Comparison | None
    changed: tuple[Disagreement, ...]
    groups: Subgroups | None
    robustness: Robustness | None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types; what was not asked for is not there."""
        data = {
            "source": self.images.source,
            "split": self.choice.split,
            "left_out_as_learned": self.choice.learned,
            "skipped": self.images.skipped_by_reason(),
        }
        found: dict[str, Any] = {
            "target": self.images.target,
            "metrics": self.metrics.to_dict(),
            "trust": self.trust.to_dict(),
            "data": data,
        }
        if self.comparison is not None:
            found["comparison"] = {**self.comparison.to_dict(), "changed": len(self.changed)}
        if self.groups is not None:
            found["groups"] = self.groups.to_dict()
        if self.robustness is not None:
            found["corruptions"] = self.robustness.to_dict()
        return found


def evaluate(
    predictor: Predictor,
    images: LabeledImages,
    choice: SplitSelection,
    *,
    other: Predictor | None,
    group: str | None,
    corruptions: bool,
    batch_size: int,
    counting: ProgressFactory,
) -> Evaluation:
    """Measure the predictor on the chosen images.

    Args:
        choice: for the predictor; without what `other` has learned from.
        other: to compare with, for which `check_comparable` has passed.
        group: a column of the table that the images are from.
        corruptions: whether to measure corrupted pictures too.

    Raises:
        DataError: for images of other channels than a model takes, or that cannot be read any more, and for a column
            that makes no groups, before anything is measured.
    """
    samples, target, labels = choice.samples, predictor.info.target, predictor.labels
    values = None if group is None else read_group_values(images.source, group, samples)
    targets = targets_of(samples, predictor.target, len(labels))
    with counting("evaluating") as progress:
        seen = run_inference(predictor, images, samples, batch_size, progress)
    answers = predictor.calibrator.outputs(seen.logits)
    comparison, changed, groups, robustness = None, [], None, None
    if other is not None:
        with counting("evaluating the other bundle") as progress:
            found = other.calibrator.outputs(run_inference(other, images, samples, batch_size, progress).logits)
        theirs, their_target = align_outputs(labels, other, found)
        comparison = compare_outputs(answers, theirs, targets, target, their_target)
        changed = find_disagreements(answers, theirs, targets, target, their_target, labels, samples)
    if group is not None and values is not None:
        groups = compute_subgroups(group, values, answers, targets, predictor.target)
    if corruptions:
        with counting("evaluating corrupted pictures") as progress:
            robustness = compute_robustness(predictor, images, samples, batch_size, progress)
    metrics = compute_metrics(answers, targets, labels, target)
    trust = compute_uncertainty(predictor.calibrator, seen, targets)
    return Evaluation(
        images,
        choice,
        answers,
        metrics,
        predictor.info.calibration,
        trust,
        comparison,
        tuple(changed),
        groups,
        robustness,
    )
