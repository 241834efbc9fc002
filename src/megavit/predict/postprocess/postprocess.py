"""Convert a bundle's logits to calibrated outputs and predictions."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from megavit.config.calibration import Calibration
from megavit.config.export_info import DISTANCE, PROBABILITIES, SCORE
from megavit.config.target import Target
from megavit.engine.engine import ModelOutput
from megavit.errors import BundleError, ConfigError
from megavit.model.outputs.logits import logits_to_outputs
from megavit.predict.postprocess.conformal import PredictionSets, check_coverage, conformal_quantile, is_possible
from megavit.predict.postprocess.ood import MahalanobisOOD
from megavit.predict.postprocess.predictions import NOT_FINITE, DecisionRule, finite_rows, make_predictions
from megavit.predict.prediction import Prediction

SET_SCORES, SET_LABELS, RESIDUALS = "sets.scores", "sets.labels", "residuals"
MEANS, WHITENING = "ood.means", "ood.whitening"
"""Names of the tensors in a bundle's `calibration.safetensors`."""


class Calibrator:
    """Calibration and out-of-distribution detection fitted on a model's validation images.

    Attributes:
        sets: prediction sets; None if not fitted.
        residuals: (N,), absolute errors of the validation images' scores; None if not fitted.
        ood: distances from the training images; None if not fitted.

    Args:
        calibration, tensors: the bundle's calibration settings and `calibration.safetensors`.
        target, labels: target of the model, and number of classes or labels.
    """

    def __init__(self, calibration: Calibration, tensors: Mapping[str, Tensor], target: Target, labels: int) -> None:
        self.calibration, self.target = calibration, target
        scores, self.residuals = tensors.get(SET_SCORES), tensors.get(RESIDUALS)
        self.sets = None if scores is None else PredictionSets(scores, tensors[SET_LABELS], labels)
        self.ood = MahalanobisOOD(tensors[MEANS], tensors[WHITENING]) if MEANS in tensors else None

    def outputs(self, logits: Tensor) -> Tensor:
        """Return calibrated probabilities or scores: see `logits_to_outputs`."""
        return logits_to_outputs(logits, self.target, self.calibration)

    def is_out_of_distribution(self, embeddings: Tensor) -> Tensor | None:
        """Return which images are unlike the training images, (B,) bools; None if not fitted."""
        if self.ood is None or self.calibration.ood_threshold is None:
            return None
        return self.ood.distance(embeddings) > self.calibration.ood_threshold

    def predictions(
        self, outputs: ModelOutput, labels: Sequence[str], top: int, coverage: float | None = None
    ) -> list[Prediction]:
        """Return the prediction for each image, or raise a BundleError if an output is not finite.

        For `top` and `coverage`, which must have passed `check_coverage`, see `megavit.Predictor.predict`.
        """
        values = self.outputs(outputs.logits)
        if not finite_rows(values, *outputs).all():
            raise BundleError(NOT_FINITE)
        is_regression = self.target.kind == "regression"
        arrays = {SCORE if is_regression else PROBABILITIES: values.numpy()}
        if self.ood is not None:
            arrays[DISTANCE] = self.ood.distance(outputs.pooled).numpy()
        rule = DecisionRule(
            target=self.target.kind,
            labels=labels,
            thresholds=self.target.thresholds,
            ood_threshold=None if self.ood is None else self.calibration.ood_threshold,
            set_limits=None if coverage is None or self.sets is None else self.sets.limits(coverage),
            interval_half_width=self.interval_half_width(coverage) if coverage is not None and is_regression else None,
        )
        return make_predictions(arrays, rule, top)

    def supports_coverage(self, coverage: float) -> bool:
        """Return whether prediction sets or intervals are available for a coverage in (0, 1)."""
        return self._images is not None and is_possible(coverage, self._images)

    def check_coverage(self, coverage: float) -> None:
        """Raise a ConfigError with the reason unless the coverage is supported."""
        if self._images is None:
            reason = "is multilabel, and prediction sets are for one class per image"
            if self.target.kind != "multilabel":
                reason = "was not calibrated: megavit train does that, and megavit calibrate for a converted bundle"
            raise ConfigError(f"no coverage is available: this bundle {reason}")
        check_coverage(coverage, self._images)

    def interval_half_width(self, coverage: float) -> float:
        """Return the largest distance of the true score from the predicted one at this coverage."""
        assert self.residuals is not None
        return conformal_quantile(self.residuals, coverage)

    @property
    def _images(self) -> int | None:
        if self.sets is not None:
            return len(self.sets.scores)
        return None if self.residuals is None else len(self.residuals)


def check_calibration_tensors(calibration: Calibration, tensors: Mapping[str, Tensor], labels: int, dim: int) -> None:
    """Raise a BundleError unless calibration tensors are complete and match the number of labels and of features."""
    floats = (torch.float32, torch.float64)
    dtypes = {SET_SCORES: floats, SET_LABELS: (torch.int64,), RESIDUALS: floats}
    dtypes |= dict.fromkeys((MEANS, WHITENING), (torch.float32,))
    for name, tensor in tensors.items():
        if tensor.dtype not in dtypes.get(name, ()):
            raise BundleError(
                f"calibration.safetensors has {name!r} of type {tensor.dtype}, which no bundle has; copy the "
                "whole folder again"
            )
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    scores, classes = shapes.get(SET_SCORES), tensors.get(SET_LABELS, torch.empty(0, dtype=torch.int64))
    means = shapes.get(MEANS)
    is_valid = (
        all(tensor.isfinite().all() for tensor in tensors.values())
        and (scores is None or (len(scores) == 1 and scores == tuple(classes.shape)))
        and (not len(classes) or (classes.min() >= 0 and classes.max() < labels))
        and len(shapes.get(RESIDUALS, (0,))) == 1
        and (calibration.ood_threshold is None) == (means is None)
        and (
            means is None or (len(means) == 2 and means[0] and means[1] == dim and shapes.get(WHITENING) == (dim, dim))
        )
    )
    if not is_valid:
        raise BundleError(
            "calibration.safetensors does not fit this bundle's labels and features; copy the whole folder again"
        )
