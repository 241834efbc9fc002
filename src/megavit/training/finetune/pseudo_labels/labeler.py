"""Predict the classes of images without labels, with calibrated probabilities and a mark for those of no class."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from megavit.config.calibration import Calibration
from megavit.evaluation.metrics.calibration import fit_temperature
from megavit.evaluation.probes.cross_validation import Fold
from megavit.model.outputs.logits import logits_to_outputs
from megavit.predict.postprocess.conformal import conformal_quantile
from megavit.predict.postprocess.ood import fit_mahalanobis_ood
from megavit.training.finetune.progressive import FrozenFeatures
from megavit.training.finetune.pseudo_labels.propagation import NeighborGraph

FALSE_ALARM_RATE = 0.05
"""Share of images like the labeled ones that are marked as of no class."""
MIN_VOTE = 1e-3
"""Smallest share of the neighbors' votes, so that an image far from all labels keeps what the probe predicts."""


@dataclass(frozen=True)
class PredictedLabels:
    """The predicted class of each image, (U,), its calibrated probability, and whether the image is of no class."""

    classes: Tensor
    probabilities: Tensor
    is_outlier: Tensor

    def are_used(self, confidence: float) -> Tensor:
        """Return which images get their class as a pseudo-label, (U,) bools."""
        return (self.probabilities >= confidence) & ~self.is_outlier


@dataclass(frozen=True)
class _Prediction:
    """What a classifier predicts for all images, first the labeled ones: logits (N + U, C) and distances (N + U,)."""

    logits: Tensor
    distances: Tensor


class PseudoLabeler:
    """A classifier of images without labels that learns from labeled ones, and from what lies near to what.

    Its logits are those of a linear probe plus the logarithm of the votes of the nearest neighbors; both err in other
    places. Calibration and mark are fitted in cross-validation, on labeled images that it was not trained on.

    Args:
        frozen: embeddings and labels of the images for training and validation, each of one class.
        unlabeled: (U, D) embeddings of the images without labels.
        penalty: penalty of the probe.
        folds: folds of the cross-validation.

    Attributes:
        labels: for each fold, what the classifier that was trained on the others predicts.
    """

    def __init__(self, frozen: FrozenFeatures, unlabeled: Tensor, penalty: float, folds: Sequence[Fold]) -> None:
        self.frozen, self.unlabeled, self.penalty = frozen, unlabeled, penalty
        self._embeddings = torch.cat([frozen.embeddings, unlabeled])
        self._graph = NeighborGraph(self._embeddings)
        predictions = [self._predict(fold.train) for fold in folds]
        held_out = torch.cat([fold.held_out for fold in folds])
        logits, distances = (
            torch.cat([rows[fold.held_out] for rows, fold in zip(parts, folds, strict=True)])
            for parts in ([one.logits for one in predictions], [one.distances for one in predictions])
        )
        labels = frozen.labels[held_out]
        temperature, smoothing = fit_temperature(logits, labels, "classification")
        self.calibration = Calibration(images=len(labels), temperature=temperature, smoothing=smoothing)
        self.max_distance = min(conformal_quantile(distances, 1 - FALSE_ALARM_RATE), distances.max().item())
        self.labels = [self._label(one) for one in predictions]

    def predict(self, indices: Tensor) -> PredictedLabels:
        """Return the labels that a classifier predicts which was trained on the labeled images at `indices`."""
        return self._label(self._predict(indices))

    def _predict(self, indices: Tensor) -> _Prediction:
        frozen, labels = self.frozen, self.frozen.labels[indices]
        probe = frozen.fit_probe(indices, self.penalty)
        votes = self._graph.spread(indices, frozen.task.soft_targets(labels))
        logits = probe.logits(self._embeddings).log_softmax(dim=1) + votes.clamp_min(MIN_VOTE).log().float()
        detector = fit_mahalanobis_ood(self._embeddings[indices], labels)
        return _Prediction(logits, detector.distance(self._embeddings))

    def _label(self, prediction: _Prediction) -> PredictedLabels:
        count = len(self.frozen.labels)
        outputs = logits_to_outputs(prediction.logits[count:], self.frozen.task.target, self.calibration)
        probabilities, classes = outputs.max(dim=1)
        return PredictedLabels(classes, probabilities, prediction.distances[count:] > self.max_distance)
