"""Two models on the same images, paired image by image: is one better, by how much, and on which images."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from megavit.config.names import canonical, index_by_name
from megavit.config.target import Target, TargetKind, joined
from megavit.data.dataset import Sample
from megavit.errors import DataError
from megavit.evaluate.metrics.bootstrap import Interval, bootstrap_images
from megavit.evaluate.metrics.dispatch import METRIC_NAMES, make_primary_metric
from megavit.evaluate.metrics.significance import SIGNIFICANCE_LEVEL, bootstrap_accuracy_difference, mcnemar_test
from megavit.predict.predictor import Predictor

Side = Literal["A", "B", "both", "neither"]


@dataclass(frozen=True)
class MetricDifference:
    """One metric of both models.

    Attributes:
        metric: its name.
        a, b: of model A and of model B.
        change: a - b, with its paired 95% interval: both models' answers to an image are drawn together.
    """

    metric: str
    a: float
    b: float
    change: Interval


@dataclass(frozen=True)
class Comparison:
    """Model A beside model B.

    Attributes:
        images: that both answered, and neither had learned from.
        differences: the metric that the target is judged by first, then others.
        only_a, only_b, both, neither: images that are right by these models, for labels with every label; None for
            scores, which are not right or wrong.
        p: of McNemar's exact test, two-sided: the chance of `only_a` and `only_b` lying as far apart as this, were
            both models equally good; None for scores.
        better: the model that is better by more than chance, "neither" where none is.
    """

    images: int
    differences: tuple[MetricDifference, ...]
    only_a: int | None
    only_b: int | None
    both: int | None
    neither: int | None
    p: float | None
    better: Side

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Disagreement:
    """One image that the two models answer otherwise.

    Attributes:
        path: of the image, as its data names it.
        truth, answer_a, answer_b: names, several labels parted by "|", or a number.
        probability_a, probability_b: of the answered class; None for labels and scores.
        right: the model whose answer is right, for a score the one whose answer is nearer ("both" for equally near).
    """

    path: str
    truth: str
    answer_a: str
    probability_a: float | None
    answer_b: str
    probability_b: float | None
    right: Side


def check_comparable(a: Predictor, b: Predictor) -> None:
    """Raise a DataError unless both models answer the same question: one kind of target, and the same names.

    The order of the names may differ.
    """
    if a.target != b.target:
        raise DataError(
            f"two bundles are compared by the same kind of answer: {a.folder} answers with {a.target}, "
            f"{b.folder} with {b.target}"
        )
    known = {one.folder: index_by_name(one.labels) for one in (a, b)}
    lacking = [
        f"{one.folder} alone knows {', '.join(map(repr, alone[:5]))}{' …' if len(alone) > 5 else ''}"
        for one, other in ((a, b), (b, a))
        if (alone := [name for name in one.labels if canonical(name) not in known[other.folder]])
    ]
    if lacking:
        raise DataError(
            f"two bundles are compared by the same classes, in any order, and these differ: {'; '.join(lacking)}"
        )


def align_outputs(labels: Sequence[str], other: Predictor, answers: Tensor) -> tuple[Tensor, Target]:
    """The other model's answers and target with their classes, or labels, in the order of `labels`.

    Args:
        labels: of the first model.
        answers: of the other one, as `Predictor.outputs` gives them.
    """
    target = other.info.target
    if not labels:
        return answers, target
    place = index_by_name(other.labels)
    order = [place[name] if name in place else place[canonical(name)] for name in labels]
    thresholds = [target.thresholds[number] for number in order] if target.thresholds else []
    return answers[:, order], Target(kind=target.kind, thresholds=thresholds)


def compare_outputs(a: Tensor, b: Tensor, targets: Tensor, target_a: Target, target_b: Target) -> Comparison:
    """Model A's answers beside model B's, to the same images.

    Args:
        a, b: as `megavit.predict.postprocess.postprocess.logits_to_outputs` does, classes and labels in one order.
        targets: as `megavit.data.targets.targets_of` gives them; one image at least.
        target_a, target_b: of the models; of one kind.
    """
    kind = target_a.kind
    if kind == "regression":
        return _comparison(kind, len(targets), (_primary(a, b, targets, kind),), None)
    right_a, right_b = (_right(one, targets, target) for one, target in ((a, target_a), (b, target_b)))
    name = METRIC_NAMES[kind] if kind == "classification" else "all labels right"
    of_right = MetricDifference(name, _share(right_a), _share(right_b), bootstrap_accuracy_difference(right_b, right_a))
    differences = (of_right,) if kind == "classification" else (_primary(a, b, targets, kind), of_right)
    return _comparison(kind, len(targets), differences, (right_a, right_b))


def find_disagreements(
    a: Tensor,
    b: Tensor,
    targets: Tensor,
    target_a: Target,
    target_b: Target,
    labels: Sequence[str],
    samples: Sequence[Sample],
) -> list[Disagreement]:
    """Return the images with different predictions, in the order of `samples`; arguments as for `compare_outputs`."""
    match target_a.kind:
        case "classification":
            (shares_a, said_a), (shares_b, said_b) = a.max(dim=1), b.max(dim=1)
            places = torch.nonzero(said_a != said_b).flatten().tolist()
            return [
                Disagreement(
                    samples[i].name,
                    labels[int(targets[i])],
                    labels[int(said_a[i])],
                    shares_a[i].item(),
                    labels[int(said_b[i])],
                    shares_b[i].item(),
                    _side(bool(said_a[i] == targets[i]), bool(said_b[i] == targets[i])),
                )
                for i in places
            ]
        case "multilabel":
            given_a, given_b = (_given(one, target) for one, target in ((a, target_a), (b, target_b)))
            places = torch.nonzero((given_a != given_b).any(dim=1)).flatten().tolist()
            return [
                Disagreement(
                    samples[i].name,
                    _listed(targets[i], labels),
                    _listed(given_a[i], labels),
                    None,
                    _listed(given_b[i], labels),
                    None,
                    _side(torch.equal(given_a[i], targets[i]), torch.equal(given_b[i], targets[i])),
                )
                for i in places
            ]
        case "regression":
            off_a, off_b = (a - targets).abs(), (b - targets).abs()
            places = torch.nonzero(a != b).flatten().tolist()
            return [
                Disagreement(
                    samples[i].name,
                    f"{targets[i].item():.6g}",
                    f"{a[i].item():.6g}",
                    None,
                    f"{b[i].item():.6g}",
                    None,
                    _side(bool(off_a[i] <= off_b[i]), bool(off_b[i] <= off_a[i])),
                )
                for i in places
            ]


def _primary(a: Tensor, b: Tensor, targets: Tensor, kind: TargetKind) -> MetricDifference:
    one, other = make_primary_metric(a, targets, kind), make_primary_metric(b, targets, kind)
    found = bootstrap_images(
        lambda drawn: (one.of(drawn) - other.of(drawn))[:, None], one.images, work=one.work + other.work
    )[0]
    if found is None:
        raise DataError("no image of these has a label, so that nothing tells the two bundles apart; give others")
    every = np.ones((1, one.images))
    return MetricDifference(METRIC_NAMES[kind], float(one.of(every)[0]), float(other.of(every)[0]), found)


def _comparison(
    kind: TargetKind, images: int, differences: tuple[MetricDifference, ...], right: tuple[Tensor, Tensor] | None
) -> Comparison:
    change = differences[0].change
    ahead = change.value < 0 if kind == "regression" else change.value > 0
    better: Side = "A" if ahead else "B"
    if change.low <= 0 <= change.high:
        better = "neither"
    if right is None:
        return Comparison(images, differences, None, None, None, None, None, better)
    a, b = right
    p = mcnemar_test(b, a, "two-sided")
    # The bootstrap is too sure of itself where few images differ; McNemar's test is exact there.
    if kind == "classification" and p >= SIGNIFICANCE_LEVEL:
        better = "neither"
    only_a, only_b, both, neither = (int(found.sum()) for found in (a & ~b, b & ~a, a & b, ~a & ~b))
    return Comparison(images, differences, only_a, only_b, both, neither, p, better)


def _right(answers: Tensor, targets: Tensor, target: Target) -> Tensor:
    if target.kind == "classification":
        return answers.argmax(dim=1) == targets
    return (_given(answers, target) == targets).all(dim=1)


def _share(right: Tensor) -> float:
    return right.double().mean().item()


def _given(answers: Tensor, target: Target) -> Tensor:
    # In double precision, as the metrics and the predictor compare them.
    return answers.double() >= torch.tensor(target.thresholds, dtype=torch.float64)


def _side(a: bool, b: bool) -> Side:
    return "both" if a and b else "A" if a else "B" if b else "neither"


def _listed(present: Tensor, labels: Sequence[str]) -> str:
    return joined(labels[place] for place in torch.nonzero(present).flatten().tolist())
