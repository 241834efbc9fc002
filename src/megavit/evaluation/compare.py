"""Compare two models on the same images with paired statistics."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from megavit.config.names import canonical, index_by_name
from megavit.config.target import Target, TargetKind, join_labels
from megavit.data.dataset import Sample
from megavit.errors import DataError
from megavit.evaluation.metrics.bootstrap import Interval, bootstrap_images
from megavit.evaluation.metrics.dispatch import METRIC_NAMES, make_primary_metric
from megavit.evaluation.metrics.significance import SIGNIFICANCE_LEVEL, bootstrap_accuracy_difference, mcnemar_test
from megavit.predict.predictor import Predictor

Side = Literal["A", "B", "both", "neither"]


@dataclass(frozen=True)
class PairedOutputs:
    """The outputs of two models for the same images, with the classes or labels in the same order.

    Attributes:
        a, b: as returned by `megavit.model.outputs.logits.logits_to_outputs`.
        targets: as returned by `megavit.data.targets.target_tensor`, for at least one image.
        target_a, target_b: each model's target, of the same kind.
    """

    a: Tensor
    b: Tensor
    targets: Tensor
    target_a: Target
    target_b: Target

    @property
    def kind(self) -> TargetKind:
        return self.target_a.kind

    def predicted(self) -> tuple[Tensor, Tensor]:
        """Return both models' predictions: class indices (N,), assigned labels (N, labels), or values (N,)."""
        match self.kind:
            case "classification":
                return self.a.argmax(dim=1), self.b.argmax(dim=1)
            case "multilabel":  # in float64, like the metrics and the predictor
                return (
                    self.a.double() >= torch.tensor(self.target_a.thresholds, dtype=torch.float64),
                    self.b.double() >= torch.tensor(self.target_b.thresholds, dtype=torch.float64),
                )
            case "regression":
                return self.a, self.b

    def correct(self) -> tuple[Tensor, Tensor]:
        """Return which images each model predicts correctly, (N,); for regression, at least as well as the other."""
        a, b = self.predicted()
        match self.kind:
            case "classification":
                return a == self.targets, b == self.targets
            case "multilabel":
                return (a == self.targets).all(dim=1), (b == self.targets).all(dim=1)
            case "regression":
                error_a, error_b = (a - self.targets).abs(), (b - self.targets).abs()
                return error_a <= error_b, error_b <= error_a


@dataclass(frozen=True)
class MetricDifference:
    """The values `a` and `b` of a metric for both models, and a - b with its paired 95% bootstrap interval."""

    metric: str
    a: float
    b: float
    difference: Interval


@dataclass(frozen=True)
class Comparison:
    """The paired comparison of model A with model B on images that neither was trained on.

    Attributes:
        differences: metric differences, the primary metric first.
        only_a, only_b, both, neither: number of images that these models predict correctly (in multilabel
            classification, with all labels correct); None for regression.
        p_value: two-sided p-value of McNemar's exact test; None for regression.
        better: the significantly better model, or "neither".
    """

    images: int
    differences: tuple[MetricDifference, ...]
    only_a: int | None
    only_b: int | None
    both: int | None
    neither: int | None
    p_value: float | None
    better: Side

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Disagreement:
    """An image for which the two models predict differently.

    Attributes:
        truth, prediction_a, prediction_b: class name, label names separated by "|", or number.
        probability_a, probability_b: probability of the predicted class; None for multilabel and regression.
        correct: the model that is correct; for regression the one with the smaller error ("both" for a tie).
    """

    path: str
    truth: str
    prediction_a: str
    probability_a: float | None
    prediction_b: str
    probability_b: float | None
    correct: Side


def check_comparable(a: Predictor, b: Predictor) -> None:
    """Raise a DataError unless both models have the same kind of target and the same names, in any order."""
    if a.target != b.target:
        raise DataError(
            f"only bundles with the same kind of target can be compared, but that of {a.folder} is {a.target} and "
            f"that of {b.folder} is {b.target}"
        )
    known = {predictor.folder: index_by_name(predictor.labels) for predictor in (a, b)}
    unmatched = [
        f"only {own.folder} has {', '.join(map(repr, unique[:5]))}{' …' if len(unique) > 5 else ''}"
        for own, other in ((a, b), (b, a))
        if (unique := [name for name in own.labels if canonical(name) not in known[other.folder]])
    ]
    if unmatched:
        raise DataError(f"only bundles with the same classes, in any order, can be compared: {'; '.join(unmatched)}")


def align_outputs(labels: Sequence[str], other: Predictor, outputs: Tensor) -> tuple[Tensor, Target]:
    """Return the other model's outputs and target with its classes, or labels, in the order of `labels`."""
    target = other.info.target
    if not labels:
        return outputs, target
    index = index_by_name(other.labels)
    order = [index[name] if name in index else index[canonical(name)] for name in labels]
    thresholds = [target.thresholds[i] for i in order] if target.thresholds else []
    return outputs[:, order], Target(kind=target.kind, thresholds=thresholds)


def compare_outputs(pair: PairedOutputs) -> Comparison:
    """Return the paired comparison of two models' outputs."""
    kind, images = pair.kind, len(pair.targets)
    differences: tuple[MetricDifference, ...] = ()
    if kind != "classification":
        differences = (_primary_difference(pair),)
    only_a = only_b = both = neither = p_value = None
    if kind != "regression":
        a, b = pair.correct()
        name = METRIC_NAMES[kind] if kind == "classification" else "all labels right"
        shares = a.double().mean().item(), b.double().mean().item()
        differences += (MetricDifference(name, *shares, bootstrap_accuracy_difference(b, a)),)
        p_value = mcnemar_test(b, a, "two-sided")
        only_a, only_b, both, neither = (int(cell.sum()) for cell in (a & ~b, b & ~a, a & b, ~a & ~b))
    difference = differences[0].difference
    a_is_ahead = difference.value < 0 if kind == "regression" else difference.value > 0
    better: Side = "A" if a_is_ahead else "B"
    # The bootstrap is overconfident if few images differ; McNemar's test is exact.
    by_chance = kind == "classification" and p_value is not None and p_value >= SIGNIFICANCE_LEVEL
    if by_chance or difference.low <= 0 <= difference.high:
        better = "neither"
    return Comparison(images, differences, only_a, only_b, both, neither, p_value, better)


def find_disagreements(pair: PairedOutputs, labels: Sequence[str], samples: Sequence[Sample]) -> list[Disagreement]:
    """Return the images for which the predictions differ, in the order of `samples`."""
    predicted_a, predicted_b = pair.predicted()
    correct_a, correct_b = pair.correct()
    different = predicted_a != predicted_b
    if pair.kind == "multilabel":
        different = different.any(dim=1)
    probability_a = probability_b = None
    if pair.kind == "classification":
        probability_a, probability_b = pair.a.amax(dim=1), pair.b.amax(dim=1)
    return [
        Disagreement(
            samples[i].name,
            _format_target(pair.targets[i], pair.kind, labels),
            _format_target(predicted_a[i], pair.kind, labels),
            None if probability_a is None else probability_a[i].item(),
            _format_target(predicted_b[i], pair.kind, labels),
            None if probability_b is None else probability_b[i].item(),
            _side(bool(correct_a[i]), bool(correct_b[i])),
        )
        for i in torch.nonzero(different).flatten().tolist()
    ]


def _primary_difference(pair: PairedOutputs) -> MetricDifference:
    a, b = (make_primary_metric(outputs, pair.targets, pair.kind) for outputs in (pair.a, pair.b))
    difference = bootstrap_images(
        lambda drawn: (a.compute(drawn) - b.compute(drawn))[:, None], a.images, work=a.work + b.work
    )[0]
    if difference is None:
        raise DataError("none of these images has a label, so the two bundles cannot be compared: pass labeled images")
    ones = np.ones((1, a.images))
    return MetricDifference(METRIC_NAMES[pair.kind], float(a.compute(ones)[0]), float(b.compute(ones)[0]), difference)


def _format_target(target: Tensor, kind: TargetKind, labels: Sequence[str]) -> str:
    match kind:
        case "classification":
            return labels[int(target)]
        case "multilabel":
            return join_labels(labels[i] for i in torch.nonzero(target).flatten().tolist())
        case "regression":
            return f"{target.item():.6g}"


def _side(a_correct: bool, b_correct: bool) -> Side:
    if a_correct and b_correct:
        return "both"
    return "A" if a_correct else "B" if b_correct else "neither"
