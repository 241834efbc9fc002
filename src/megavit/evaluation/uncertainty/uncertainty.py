"""Fit calibration, prediction sets and out-of-distribution detection on held-out images."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from megavit.config.calibration import Calibration
from megavit.config.target import Target
from megavit.data.dataset import LabeledImages
from megavit.data.scan import Progress
from megavit.data.targets import target_tensor
from megavit.engine.engine import ModelOutput
from megavit.errors import DataError
from megavit.evaluation.inference import SplitSelection, run_inference
from megavit.evaluation.metrics.calibration import fit_temperature
from megavit.evaluation.metrics.dispatch import Metrics, compute_metrics
from megavit.evaluation.metrics.multilabel import fit_thresholds
from megavit.evaluation.uncertainty.measure import UncertaintyMetrics, compute_uncertainty
from megavit.model.outputs.logits import logits_to_outputs
from megavit.predict.postprocess.conformal import conformal_quantile
from megavit.predict.postprocess.ood import fit_mahalanobis_ood
from megavit.predict.postprocess.postprocess import (
    MEANS,
    RESIDUALS,
    SET_LABELS,
    SET_SCORES,
    WHITENING,
    Calibrator,
)
from megavit.predict.postprocess.predictions import cumulative_mass_above
from megavit.predict.predictor import Predictor
from megavit.runtime.seeds import generator
from megavit.weights.bundle.info import BundleInfo

MIN_IMAGES = 60
# Shares of the images for the out-of-distribution reference and for all other fits; the rest is for testing.
_REFERENCE_SHARE, _FIT_SHARE = 0.3, 0.4
_BATCH_SIZE = 64


def fit_uncertainty(
    held_out: ModelOutput,
    targets: Tensor,
    target: Target,
    reference: tuple[Tensor, Tensor] | None,
    *,
    false_positive_rate: float = 0.01,
    temperature_only: bool = False,
) -> tuple[Calibration, dict[str, Tensor]]:
    """Fit temperature, prediction sets or intervals, and out-of-distribution detection.

    Args:
        held_out: the model's output for the validation images.
        targets: their targets, as returned by `megavit.data.targets.target_tensor`.
        reference: (N, D) embeddings and (N, ...) targets of training images; None: no out-of-distribution detection.
        false_positive_rate: share in (0, 1) of in-distribution images to be flagged as out of distribution.
        temperature_only: fit no smoothing, as in `fit_temperature`.

    Returns:
        The calibration, and its tensors for the bundle.
    """
    calibration = Calibration(images=len(targets), ood_false_alarm_rate=false_positive_rate)
    tensors: dict[str, Tensor] = {}
    if target.kind != "regression":
        temperature, smoothing = fit_temperature(
            held_out.logits, targets, target.kind, temperature_only=temperature_only
        )
        calibration = replace(calibration, temperature=temperature, smoothing=smoothing)
    predicted = logits_to_outputs(held_out.logits, target, calibration)
    if target.kind == "classification":
        masses = torch.from_numpy(cumulative_mass_above(predicted.numpy()))
        tensors |= {SET_SCORES: masses.gather(1, targets[:, None])[:, 0], SET_LABELS: targets}
    elif target.kind == "regression":
        tensors[RESIDUALS] = (predicted - targets).abs()
    if reference is not None:
        embeddings, groups = reference
        # The detector has a mean per class; other targets have one mean.
        detector = fit_mahalanobis_ood(
            embeddings, groups if target.kind == "classification" else torch.zeros(len(groups))
        )
        tensors |= {MEANS: detector.means, WHITENING: detector.whitening}
        distances = detector.distance(held_out.pooled)
        # With too few images for the rate, the largest distance.
        threshold = min(conformal_quantile(distances, 1 - false_positive_rate), distances.max().item())
        calibration = replace(calibration, ood_threshold=threshold)
    return calibration, tensors


@dataclass(frozen=True)
class CalibrationResult:
    """A new calibration of a bundle, and the metrics of calibrated predictions that nothing was fitted on."""

    source: str
    target: Target
    calibration: Calibration
    tensors: dict[str, Tensor]
    uncertainty: UncertaintyMetrics
    metrics: Metrics


def calibrate(
    predictor: Predictor,
    images: LabeledImages,
    selection: SplitSelection,
    progress: Progress,
    *,
    temperature_only: bool = False,
) -> CalibrationResult:
    """Return a new calibration of a bundle.

    Args:
        selection: images that the model was not trained on. 30% are the reference of out-of-distribution detection, 40%
            fit everything else, and 30% evaluate both.
        temperature_only: calibrate by a temperature alone, which a linear head can represent.

    Raises:
        DataError: for fewer than `MIN_IMAGES` images, and like `megavit.evaluation.inference.run_inference`.
    """
    if len(selection.samples) < MIN_IMAGES:
        raise DataError(
            f"{len(selection.samples)} images of {images.source} are too few to calibrate on: pass at least "
            f"{MIN_IMAGES} that the model was not trained on"
        )
    targets = target_tensor(selection.samples, predictor.target, len(predictor.labels))
    output = run_inference(predictor, images, selection.samples, _BATCH_SIZE, progress)
    order = torch.randperm(len(targets), generator=generator(0))
    first, second = (round(len(order) * share) for share in (_REFERENCE_SHARE, _REFERENCE_SHARE + _FIT_SHARE))
    reference, fit, test = order.tensor_split([first, second])
    target = predictor.info.target
    calibration, tensors = fit_uncertainty(
        _take(output, fit),
        targets[fit],
        target,
        (output.pooled[reference], targets[reference]),
        temperature_only=temperature_only,
    )
    calibrator = Calibrator(calibration, tensors, target, len(predictor.labels))
    if target.kind == "multilabel":
        target = replace(target, thresholds=fit_thresholds(calibrator.outputs(output.logits[fit]), targets[fit]))
    uncertainty = compute_uncertainty(calibrator, _take(output, test), targets[test])
    metrics = compute_metrics(calibrator.outputs(output.logits[test]), targets[test], predictor.labels, target)
    calibration = replace(calibration, test_metrics=uncertainty.to_dict())
    return CalibrationResult(images.source, target, calibration, tensors, uncertainty, metrics)


def apply_calibration(info: BundleInfo, result: CalibrationResult) -> BundleInfo:
    """Return the bundle's info with the new calibration, and with only the metrics of the new predictions."""
    used = {"source": result.source, "fitted": result.calibration.images, "measured": result.metrics.images}
    return replace(
        info,
        target=result.target,
        calibration=result.calibration,
        metrics=result.metrics.to_dict(),
        data=info.data | {"calibrated": used},
    )


def _take(output: ModelOutput, indices: Tensor) -> ModelOutput:
    return ModelOutput(output.pooled[indices], output.logits[indices])
