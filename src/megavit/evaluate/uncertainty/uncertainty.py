"""Fits how far a model may be trusted, on images held back from training, and measures what came of it on others."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from megavit.config.calibration import Calibration
from megavit.config.target import Target
from megavit.data.dataset import LabeledImages
from megavit.data.scan import Progress
from megavit.data.targets import targets_of
from megavit.engine.engine import ModelOutput
from megavit.errors import DataError
from megavit.evaluate.inference import SplitSelection, run_inference
from megavit.evaluate.metrics.bootstrap import Interval, wilson_interval
from megavit.evaluate.metrics.calibration import Reliability, compute_reliability, fit_temperature
from megavit.evaluate.metrics.dispatch import Metrics, compute_metrics
from megavit.evaluate.metrics.multilabel import fit_thresholds
from megavit.predict.postprocess.conformal import conformal_quantile, cumulative_mass_above
from megavit.predict.postprocess.ood import fit_mahalanobis_ood
from megavit.predict.postprocess.postprocess import (
    MEANS,
    RESIDUALS,
    SET_LABELS,
    SET_SCORES,
    WHITENING,
    Calibrator,
    logits_to_outputs,
)
from megavit.predict.predictor import Predictor
from megavit.runtime.seeds import generator
from megavit.weights.bundle.bundle import BundleInfo

COVERAGES = (0.9, 0.95, 0.99)


@dataclass(frozen=True)
class CoverageMetrics:
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
class UncertaintyMetrics:
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
    coverages: tuple[CoverageMetrics, ...]
    false_alarms: Interval | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def fit_uncertainty(
    held: ModelOutput,
    targets: Tensor,
    target: Target,
    learned: tuple[Tensor, Tensor] | None,
    false_alarms: float = 0.01,
    *,
    temperature_only: bool = False,
) -> tuple[Calibration, dict[str, Tensor]]:
    """Temperature, sets or intervals, and likeness, with their tensors for the bundle.

    Args:
        held: what the model sees in the validation images.
        targets: of these, as `megavit.data.targets.targets_of` gives them.
        target: what the logits mean.
        learned: (N, D) embeddings and (N, ...) targets of training images; None leaves the likeness out.
        false_alarms: of images like those of training, the share to be marked as unlike them, in (0, 1).
        temperature_only: as of `fit_temperature`.
    """
    trust = Calibration(images=len(targets), ood_false_alarm_rate=false_alarms)
    tensors: dict[str, Tensor] = {}
    if target.kind != "regression":
        temperature, smoothing = fit_temperature(held.logits, targets, target.kind, temperature_only=temperature_only)
        trust = replace(trust, temperature=temperature, smoothing=smoothing)
    answers = logits_to_outputs(held.logits, target, trust)
    if target.kind == "classification":
        tensors |= {SET_SCORES: cumulative_mass_above(answers).gather(1, targets[:, None])[:, 0], SET_LABELS: targets}
    elif target.kind == "regression":
        tensors[RESIDUALS] = (answers - targets).abs()
    if learned is not None:
        embeddings, groups = learned
        # Labels and scores make no groups.
        groups = groups if target.kind == "classification" else torch.zeros(len(groups))
        likeness = fit_mahalanobis_ood(embeddings, groups)
        tensors |= {MEANS: likeness.means, WHITENING: likeness.whitening}
        distances = likeness.distance(held.pooled)
        # Where they are too few for so small a share, the farthest of them.
        trust = replace(
            trust, ood_threshold=min(conformal_quantile(distances, 1 - false_alarms), distances.max().item())
        )
    return trust, tensors


def compute_uncertainty(trusted: Calibrator, seen: ModelOutput, targets: Tensor) -> UncertaintyMetrics:
    """Of images that nothing was fitted on.

    Args:
        trusted: of the model.
        seen: what it sees in the images.
        targets: of these.
    """
    kind = trusted.target.kind
    answers = trusted.outputs(seen.logits)
    before = after = None
    if kind != "regression":
        before = compute_reliability(logits_to_outputs(seen.logits, trusted.target), targets, kind)
        after = compute_reliability(answers, targets, kind)
    unlike = trusted.is_out_of_distribution(seen.pooled)
    possible = [asked for asked in COVERAGES if trusted.supports_coverage(asked)]
    return UncertaintyMetrics(
        images=len(targets),
        before=before,
        after=after,
        coverages=tuple(_coverage(trusted, answers, targets, asked) for asked in possible),
        false_alarms=None if unlike is None else wilson_interval(int(unlike.sum()), len(unlike)),
    )


def _coverage(trusted: Calibrator, answers: Tensor, targets: Tensor, asked: float) -> CoverageMetrics:
    if trusted.sets is None:
        width = trusted.interval_half_width(asked)
        inside = (answers - targets).abs() <= width
        return CoverageMetrics(asked, wilson_interval(int(inside.sum()), len(inside)), size=2 * width)
    members = trusted.sets.members(answers, asked)
    inside = members.gather(1, targets[:, None])[:, 0]
    by_class = [inside[targets == label].double().mean().item() for label in targets.unique()]
    return CoverageMetrics(
        asked,
        wilson_interval(int(inside.sum()), len(inside)),
        size=members.sum(dim=1).double().mean().item(),
        by_class=trusted.sets.by_class(asked),
        least=min(by_class),
    )


# Images to compare new ones with, to fit on, and to measure on.
SHARES = (0.3, 0.4, 0.3)
MIN_IMAGES = 60
BATCH = 64


@dataclass(frozen=True)
class CalibrationResult:
    """What was fitted, and what came of it on images that nothing was fitted on.

    Attributes:
        source: of the images.
        target: with the new thresholds.
        trust, tensors: what was fitted.
        metrics: of the calibration, on the images that nothing was fitted on.
        test: of the answers, on the same.
    """

    source: str
    target: Target
    trust: Calibration
    tensors: dict[str, Tensor]
    metrics: UncertaintyMetrics
    test: Metrics


def calibrate(
    predictor: Predictor,
    images: LabeledImages,
    choice: SplitSelection,
    progress: Progress,
    *,
    temperature_only: bool = False,
) -> CalibrationResult:
    """Fit the trust of a bundle anew.

    Args:
        temperature_only: calibrate by a temperature alone, which a linear head can hold.
        choice: images that the model has not learned from. Three tenths of them are what new images are compared with,
            four tenths are fitted on, and the rest measured.

    Raises:
        DataError: for fewer than `MIN_IMAGES` images, and as `megavit.evaluate.inference.run_inference`.
    """
    if len(choice.samples) < MIN_IMAGES:
        raise DataError(
            f"{len(choice.samples)} images of {images.source} are too few to calibrate on: give {MIN_IMAGES} or more "
            "that the model has not learned from"
        )
    targets = targets_of(choice.samples, predictor.target, len(predictor.labels))
    seen = run_inference(predictor, images, choice.samples, BATCH, progress)
    order = torch.randperm(len(targets), generator=generator(0))
    first, second = (round(len(order) * share) for share in (SHARES[0], SHARES[0] + SHARES[1]))
    known, held, rest = order.tensor_split([first, second])
    target = predictor.info.target
    learned = (seen.pooled[known], targets[known])
    trust, tensors = fit_uncertainty(
        _part(seen, held), targets[held], target, learned, temperature_only=temperature_only
    )
    trusted = Calibrator(trust, tensors, target, len(predictor.labels))
    if target.kind == "multilabel":
        answers = trusted.outputs(seen.logits[held])
        target = replace(target, thresholds=fit_thresholds(answers, targets[held]))
    metrics = compute_uncertainty(trusted, _part(seen, rest), targets[rest])
    test = compute_metrics(trusted.outputs(seen.logits[rest]), targets[rest], predictor.labels, target)
    trust = replace(trust, test_metrics=metrics.to_dict())
    return CalibrationResult(images.source, target, trust, tensors, metrics, test)


def apply_calibration(info: BundleInfo, found: CalibrationResult) -> BundleInfo:
    """Return what a bundle says of itself once it is calibrated: its figures are of the new answers alone."""
    told = {"source": found.source, "fitted": found.trust.images, "measured": found.test.images}
    return replace(
        info,
        target=found.target,
        calibration=found.trust,
        metrics=found.test.to_dict(),
        data=info.data | {"calibrated": told},
    )


def _part(seen: ModelOutput, places: Tensor) -> ModelOutput:
    return ModelOutput(seen.pooled[places], seen.logits[places])
