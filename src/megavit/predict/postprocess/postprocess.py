"""What a model sees, as answers that say how far they may be trusted."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from megavit.config.calibration import Calibration
from megavit.config.target import Target
from megavit.engine.engine import ModelOutput
from megavit.errors import BundleError, ConfigError
from megavit.predict.finite import NOT_FINITE, finite_rows
from megavit.predict.postprocess.conformal import PredictionSets, check_coverage, conformal_quantile, is_possible
from megavit.predict.postprocess.ood import MahalanobisOOD
from megavit.predict.prediction import Prediction

# Of a class whose share of the smoothing is all that it had.
LEAST = 1e-7


def logits_to_outputs(logits: Tensor, target: Target, calibration: Calibration = Calibration()) -> Tensor:  # noqa: B008 - frozen
    """Logits (B, outputs) as answers.

    Args:
        calibration: whose temperature and smoothing make probabilities what they say. Neither changes the order of an
            image's classes.

    Returns:
        "classification": (B, classes) probabilities, rows summing to 1; "multilabel": (B, labels) probabilities, each
        by itself; "regression": (B,) scores, in the unit of the training scores.
    """
    match target.kind:
        case "classification":
            shares = (logits / calibration.temperature).softmax(dim=1)
            return without_smoothing(shares, calibration.smoothing) if calibration.smoothing else shares
        case "multilabel":
            return (logits / calibration.temperature).sigmoid()
        case "regression":
            return logits[:, 0] * target.std + target.mean


def without_smoothing(shares: Tensor, smoothing: float) -> Tensor:
    """Probabilities (B, classes) of a model that has learned to spread the share `smoothing` of each evenly.

    That is what label smoothing teaches (arXiv 1512.00567, section 7).
    """
    own = (shares - smoothing / shares.shape[1]).clamp_min(LEAST)
    return own / own.sum(dim=1, keepdim=True)


Ranked = tuple[tuple[str, float], ...]

# Names of the tensors in a bundle's `calibration.safetensors`.
SET_SCORES, SET_LABELS, RESIDUALS = "sets.scores", "sets.labels", "residuals"
MEANS, WHITENING = "ood.means", "ood.whitening"


class Calibrator:
    """Of a model, what was fitted on its validation images.

    Attributes:
        sets: of classes with a stated coverage; None where there are none.
        residuals: (N,), how far validation images' scores were off; None where there are none.
        likeness: to the training images; None where it was not fitted.

    Args:
        calibration: of the bundle, with its `tensors`.
        target: what the logits mean.
        labels: number of classes or labels.
    """

    def __init__(self, calibration: Calibration, tensors: Mapping[str, Tensor], target: Target, labels: int) -> None:
        self.calibration, self.target = calibration, target
        scores, residuals = tensors.get(SET_SCORES), tensors.get(RESIDUALS)
        self.sets = None if scores is None else PredictionSets(scores, tensors[SET_LABELS], labels)
        self.residuals = residuals
        self.ood = MahalanobisOOD(tensors[MEANS], tensors[WHITENING]) if MEANS in tensors else None

    def outputs(self, logits: Tensor) -> Tensor:
        """As `megavit.predict.postprocess.postprocess.logits_to_outputs`, with probabilities that are calibrated."""
        return logits_to_outputs(logits, self.target, self.calibration)

    def is_out_of_distribution(self, embeddings: Tensor) -> Tensor | None:
        """Which images are unlike those of training, (B,) bools; None where it is not known."""
        if self.ood is None or self.calibration.ood_threshold is None:
            return None
        return self.ood.distance(embeddings) > self.calibration.ood_threshold

    def predictions(
        self, seen: ModelOutput, labels: Sequence[str], top: int, coverage: float | None = None
    ) -> list[Prediction]:
        """One for each image.

        Args:
            labels: names of the classes or labels.
            top: how many to list.
            coverage: that `check_coverage` has passed, or None.

        Raises:
            BundleError: for answers that are not finite.
        """
        answers = self.outputs(seen.logits)
        if not finite_rows(answers, seen.logits, seen.pooled).all():
            raise BundleError(NOT_FINITE)
        unlike = self.is_out_of_distribution(seen.pooled)
        marks: list[bool | None] = [None] * len(answers) if unlike is None else unlike.tolist()
        if self.target.kind == "regression":
            width = None if coverage is None else self.interval_half_width(coverage)
            return [
                Prediction(
                    value=value,
                    out_of_distribution=mark,
                    interval=None if width is None else (value - width, value + width),
                )
                for value, mark in zip(answers.tolist(), marks, strict=True)
            ]
        ranked = [_named(row, labels) for row in _ranked(answers, max(top, 1))]
        if self.target.kind == "multilabel":
            reached = answers.double() >= torch.tensor(self.target.thresholds, dtype=torch.float64)
            given = [_named(row, labels) for row in _ranked(answers, len(labels), reached)]
            return [
                Prediction(top=row, given=own, out_of_distribution=mark)
                for row, own, mark in zip(ranked, given, marks, strict=True)
            ]
        sets: list[Ranked | None] = [None] * len(answers)
        if coverage is not None and self.sets is not None:
            members = self.sets.members(answers, coverage)
            sets = [_named(row, labels) for row in _ranked(answers, len(labels), members)]
        return [
            Prediction(top=row, prediction_set=own, out_of_distribution=mark)
            for row, own, mark in zip(ranked, sets, marks, strict=True)
        ]

    def supports_coverage(self, coverage: float) -> bool:
        """Whether sets or intervals of that coverage can be given."""
        return self._calibrated is not None and is_possible(coverage, self._calibrated)

    def check_coverage(self, coverage: float) -> None:
        """Raise a ConfigError, with the reason, where they cannot."""
        if self._calibrated is None:
            what = "answers with labels, and sets are of one class an image"
            if self.target.kind != "multilabel":
                what = "was not calibrated: megavit train does that, and megavit calibrate for a converted one"
            raise ConfigError(f"there is no coverage to be had: this bundle {what}")
        check_coverage(coverage, self._calibrated)

    def interval_half_width(self, coverage: float) -> float:
        """Of the interval about a score that holds the true one with that coverage."""
        assert self.residuals is not None
        return conformal_quantile(self.residuals, coverage)

    @property
    def _calibrated(self) -> int | None:
        """Images that sets or intervals were fitted on."""
        if self.sets is not None:
            return len(self.sets.scores)
        return None if self.residuals is None else len(self.residuals)


def check_tensors(calibration: Calibration, tensors: Mapping[str, Tensor], labels: int, dim: int) -> None:
    """Raise a BundleError unless the tensors of a bundle's calibration are whole, and of its labels and features.

    Args:
        labels: number of classes or labels.
        dim: of the features.
    """
    floats = (torch.float32, torch.float64)
    kinds = {SET_SCORES: floats, SET_LABELS: (torch.int64,), RESIDUALS: floats}
    likeness = dict.fromkeys((MEANS, WHITENING), (torch.float32,))
    for name, tensor in tensors.items():
        if tensor.dtype not in (kinds | likeness).get(name, ()):
            raise BundleError(
                f"calibration.safetensors has {name!r} of type {tensor.dtype}, which is none of a bundle's; copy "
                "the whole folder again"
            )
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    scores, classes = shapes.get(SET_SCORES), tensors.get(SET_LABELS, torch.empty(0, dtype=torch.int64))
    means = shapes.get(MEANS)
    right = (
        all(tensor.isfinite().all() for tensor in tensors.values())
        and (scores is None or (len(scores) == 1 and scores == tuple(classes.shape)))
        and (not len(classes) or (not classes.is_floating_point() and classes.min() >= 0 and classes.max() < labels))
        and len(shapes.get(RESIDUALS, (0,))) == 1
        and (calibration.ood_threshold is None) == (means is None)
        and (
            means is None or (len(means) == 2 and means[0] and means[1] == dim and shapes.get(WHITENING) == (dim, dim))
        )
    )
    if not right:
        raise BundleError(
            "calibration.safetensors is not of this bundle's labels and features; copy the whole folder again"
        )


def _ranked(answers: Tensor, most: int, chosen: Tensor | None = None) -> list[list[tuple[int, float]]]:
    """Of each image the places and values of its `most` largest answers, largest first; of the `chosen` ones alone."""
    values, places = answers.topk(min(most, answers.shape[1]), dim=1)
    kept = torch.ones_like(places, dtype=torch.bool) if chosen is None else chosen.gather(1, places)
    return [
        [(place, value) for place, value, keep in zip(*row, strict=True) if keep]
        for row in zip(places.tolist(), values.tolist(), kept.tolist(), strict=True)
    ]


def _named(row: list[tuple[int, float]], labels: Sequence[str]) -> Ranked:
    return tuple((labels[place], value) for place, value in row)
