"""Fits how far a model may be trusted, on images held back from training, and measures what came of it on others."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from megavit.config.target import Target
from megavit.config.trust import Trust
from megavit.engine.engine import Seen
from megavit.evaluate.calibration import Reliability, fit_calibration, reliability
from megavit.evaluate.intervals import Interval, wilson
from megavit.predict.conformal import likelier_mass, limit
from megavit.predict.likeness import fit_likeness
from megavit.predict.outputs import outputs
from megavit.predict.trusted import MEANS, RESIDUALS, SET_LABELS, SET_SCORES, WHITENING, Trusted

COVERAGES = (0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Coverage:
    """Of sets of classes, or intervals about scores.

    Attributes:
        asked: share of images whose truth they are to hold.
        got: share of those that they were measured on.
        size: classes in a set, or width of an interval, on average.
        by_class: whether the share is promised for every class by itself.
        least: the share of the class that has the smallest; None for scores.
    """

    asked: float
    got: Interval
    size: float
    by_class: bool = False
    least: float | None = None


@dataclass(frozen=True)
class TrustMetrics:
    """How far the answers on some images can be trusted.

    Attributes:
        images: measured on.
        before, after: calibration of the probabilities without the temperature, and with it; None for scores.
        coverages: for each of `COVERAGES` that the number of validation images allows.
        false_alarms: share of these images that are marked as unlike training; None where that is not fitted.
    """

    images: int
    before: Reliability | None
    after: Reliability | None
    coverages: tuple[Coverage, ...]
    false_alarms: Interval | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def fit_trust(
    held: Seen,
    targets: Tensor,
    target: Target,
    learnt: tuple[Tensor, Tensor] | None,
    false_alarms: float = 0.01,
    *,
    temperature_only: bool = False,
) -> tuple[Trust, dict[str, Tensor]]:
    """Temperature, sets or intervals, and likeness, with their tensors for the bundle.

    Args:
        held: what the model sees in the validation images.
        targets: of these, as `megavit.data.targets.targets_of` gives them.
        target: what the logits mean.
        learnt: (N, D) embeddings and (N, ...) targets of training images; None leaves the likeness out.
        false_alarms: of images like those of training, the share to be marked as unlike them, in (0, 1).
        temperature_only: as of `fit_calibration`.
    """
    trust = Trust(images=len(targets), false_alarms=false_alarms)
    tensors: dict[str, Tensor] = {}
    if target.kind != "score":
        temperature, smoothing = fit_calibration(held.logits, targets, target.kind, temperature_only=temperature_only)
        trust = replace(trust, temperature=temperature, smoothing=smoothing)
    answers = outputs(held.logits, target, trust)
    if target.kind == "classes":
        tensors |= {SET_SCORES: likelier_mass(answers).gather(1, targets[:, None])[:, 0], SET_LABELS: targets}
    elif target.kind == "score":
        tensors[RESIDUALS] = (answers - targets).abs()
    if learnt is not None:
        embeddings, groups = learnt
        # Labels and scores make no groups.
        likeness = fit_likeness(embeddings, groups if target.kind == "classes" else torch.zeros(len(groups)))
        tensors |= {MEANS: likeness.means, WHITENING: likeness.whitening}
        distances = likeness.distance(held.pooled)
        # Where they are too few for so small a share, the farthest of them.
        trust = replace(trust, threshold=min(limit(distances, 1 - false_alarms), distances.max().item()))
    return trust, tensors


def measure_trust(trusted: Trusted, seen: Seen, targets: Tensor) -> TrustMetrics:
    """Of images that nothing was fitted on.

    Args:
        trusted: of the model.
        seen: what it sees in the images.
        targets: of these.
    """
    kind = trusted.target.kind
    answers = trusted.answers(seen.logits)
    before = after = None
    if kind != "score":
        before = reliability(outputs(seen.logits, trusted.target), targets, kind)
        after = reliability(answers, targets, kind)
    unlike = trusted.unlike(seen.pooled)
    possible = [asked for asked in COVERAGES if trusted.can_cover(asked)]
    return TrustMetrics(
        images=len(targets),
        before=before,
        after=after,
        coverages=tuple(_coverage(trusted, answers, targets, asked) for asked in possible),
        false_alarms=None if unlike is None else wilson(int(unlike.sum()), len(unlike)),
    )


def _coverage(trusted: Trusted, answers: Tensor, targets: Tensor, asked: float) -> Coverage:
    if trusted.sets is None:
        width = trusted.half_width(asked)
        inside = (answers - targets).abs() <= width
        return Coverage(asked, wilson(int(inside.sum()), len(inside)), size=2 * width)
    members = trusted.sets.members(answers, asked)
    inside = members.gather(1, targets[:, None])[:, 0]
    by_class = [inside[targets == label].double().mean().item() for label in targets.unique()]
    return Coverage(
        asked,
        wilson(int(inside.sum()), len(inside)),
        size=members.sum(dim=1).double().mean().item(),
        by_class=trusted.sets.by_class(asked),
        least=min(by_class),
    )
