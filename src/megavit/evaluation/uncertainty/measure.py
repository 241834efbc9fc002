"""Measure calibration, prediction sets and out-of-distribution detection on images that nothing was fitted on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from megavit.engine.engine import ModelOutput
from megavit.evaluation.metrics.bootstrap import Interval, wilson_interval
from megavit.evaluation.metrics.calibration import Reliability, compute_reliability
from megavit.model.outputs.logits import logits_to_outputs
from megavit.predict.postprocess.postprocess import Calibrator

COVERAGES = (0.9, 0.95, 0.99)


@dataclass(frozen=True)
class CoverageMetrics:
    """The coverage and size of prediction sets or intervals.

    Attributes:
        requested: requested coverage, in (0, 1).
        empirical: coverage on these images.
        mean_size: mean number of classes in a set, or width of an interval.
        class_conditional: whether the coverage is guaranteed for every class separately.
        worst_class: lowest coverage of any class; None for intervals.
    """

    requested: float
    empirical: Interval
    mean_size: float
    class_conditional: bool = False
    worst_class: float | None = None


@dataclass(frozen=True)
class UncertaintyMetrics:
    """Metrics of calibration, coverage and out-of-distribution detection.

    Attributes:
        uncalibrated, calibrated: reliability of the probabilities before and after calibration; None for regression.
        coverages: metrics for each of `COVERAGES` that the number of validation images allows.
        false_positive_rate: share of these images that are flagged as out of distribution; None if detection is not
            fitted.
    """

    images: int
    uncalibrated: Reliability | None
    calibrated: Reliability | None
    coverages: tuple[CoverageMetrics, ...]
    false_positive_rate: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class HeldOutput:
    """A model's output for images that nothing was fitted on, with their targets and the model's calibrator."""

    calibrator: Calibrator
    output: ModelOutput
    targets: Tensor

    @property
    def predicted(self) -> Tensor:
        """The calibrated outputs."""
        return self.calibrator.outputs(self.output.logits)


def compute_uncertainty(calibrator: Calibrator, output: ModelOutput, targets: Tensor) -> UncertaintyMetrics:
    """Return the uncertainty metrics of a model's output for images that nothing was fitted on."""
    return compute_pooled_uncertainty([HeldOutput(calibrator, output, targets)])


def compute_pooled_uncertainty(parts: Sequence[HeldOutput]) -> UncertaintyMetrics:
    """Return the uncertainty metrics of several models of the same kind together, each for images of its own."""
    kind = parts[0].calibrator.target.kind
    targets = torch.cat([part.targets for part in parts])
    uncalibrated = calibrated = None
    if kind != "regression":
        raw = [logits_to_outputs(part.output.logits, part.calibrator.target) for part in parts]
        uncalibrated = compute_reliability(torch.cat(raw), targets, kind)
        calibrated = compute_reliability(torch.cat([part.predicted for part in parts]), targets, kind)
    found = [part.calibrator.is_out_of_distribution(part.output.pooled) for part in parts]
    known = [flagged for flagged in found if flagged is not None]
    flags = torch.cat(known) if len(known) == len(parts) else None
    return UncertaintyMetrics(
        images=len(targets),
        uncalibrated=uncalibrated,
        calibrated=calibrated,
        coverages=tuple(
            _compute_coverage(parts, targets, coverage)
            for coverage in COVERAGES
            if all(part.calibrator.supports_coverage(coverage) for part in parts)
        ),
        false_positive_rate=None if flags is None else wilson_interval(int(flags.sum()), len(flags)),
    )


def _compute_coverage(parts: Sequence[HeldOutput], targets: Tensor, requested: float) -> CoverageMetrics:
    inside: list[Tensor] = []
    sizes: list[Tensor] = []
    class_conditional: list[bool] = []
    for part in parts:
        if (sets := part.calibrator.sets) is None:
            half_width = part.calibrator.interval_half_width(requested)
            inside.append((part.predicted - part.targets).abs() <= half_width)
            sizes.append(torch.full((len(part.targets),), 2 * half_width, dtype=torch.float64))
        else:
            members = torch.from_numpy(sets.members(part.predicted.numpy(), requested))
            inside.append(members.gather(1, part.targets[:, None])[:, 0])
            sizes.append(members.sum(dim=1).double())
            class_conditional.append(sets.is_class_conditional(requested))
    covered, mean_size = torch.cat(inside), torch.cat(sizes).mean().item()
    empirical = wilson_interval(int(covered.sum()), len(covered))
    if not class_conditional:
        return CoverageMetrics(requested, empirical, mean_size)
    return CoverageMetrics(
        requested,
        empirical,
        mean_size,
        class_conditional=all(class_conditional),
        worst_class=min(covered[targets == label].double().mean().item() for label in targets.unique()),
    )
