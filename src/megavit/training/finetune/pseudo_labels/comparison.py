"""Compare a probe that is trained on pseudo-labels too with one that is not, on images that neither was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.evaluation.metrics.calibration import fit_temperature
from megavit.evaluation.metrics.significance import mcnemar_test
from megavit.evaluation.probes.cross_validation import make_folds
from megavit.evaluation.probes.linear_probe import PENALTIES, LinearProbe, fit_linear_probes
from megavit.training.finetune.progressive import FrozenFeatures
from megavit.training.finetune.pseudo_labels.labeler import PredictedLabels, PseudoLabeler
from megavit.training.history import PseudoLabelGain

MAX_PENALTIES = 4
"""Number of penalties that are tried with pseudo-labels: the best without them, and the next weaker ones."""


@dataclass(frozen=True)
class PseudoLabels:
    """Pseudo-labels of images, the penalty of the probe that is trained on them too, and what they bring."""

    labeler: PseudoLabeler
    confidence: float
    penalty: float
    gain: PseudoLabelGain

    def predict(self, indices: Tensor) -> PredictedLabels:
        """Return the labels predicted by what was trained on the labeled images at `indices`."""
        return self.labeler.predict(indices)

    def fit_probe(self, indices: Tensor) -> LinearProbe:
        """Return a probe fitted on the labeled images at `indices`, and on the pseudo-labels that they give."""
        labels = self.predict(indices)
        return fit_with_labels(self.labeler, indices, labels, self.confidence, (self.penalty,))[0]


def compare_pseudo_labels(
    frozen: FrozenFeatures, unlabeled: Tensor, digests: Sequence[str], confidence: float
) -> PseudoLabels:
    """Return pseudo-labels with what they bring in cross-validation, on the images for training and validation.

    They are used if they make the metric better, or the loss of calibrated probabilities at the same metric. Both
    probes have the penalty that is best for them, so that the gain is that of the pseudo-labels.
    """
    folds = make_folds(frozen.labels, seed=frozen.task.recipe.run.seed, digests=digests)
    truth = frozen.labels[torch.cat([fold.held_out for fold in folds])]
    without, with_labels = _Arm(), _Arm()
    for fold in folds:
        without.add(fit_probes(frozen, fold.train), frozen.embeddings[fold.held_out])
    before = without.choose(truth)
    labeler = PseudoLabeler(frozen, unlabeled, before.penalty, folds)
    weaker = PENALTIES[PENALTIES.index(before.penalty) :][:MAX_PENALTIES]
    for fold, labels in zip(folds, labeler.labels, strict=True):
        probes = fit_with_labels(labeler, fold.train, labels, confidence, weaker)
        with_labels.add(probes, frozen.embeddings[fold.held_out])
    after = with_labels.choose(truth)
    values = [frozen.compute_metric(arm.logits, truth) for arm in (before, after)]
    was_right, is_right = (arm.logits.argmax(dim=1) == truth for arm in (before, after))
    is_any_used = any(labels.are_used(confidence).any() for labels in labeler.labels)
    gain = PseudoLabelGain(
        images=len(truth),
        metric=frozen.task.metric,
        without=values[0],
        with_labels=values[1],
        loss_without=before.loss,
        loss_with_labels=after.loss,
        gained=int((is_right & ~was_right).sum()),
        lost=int((was_right & ~is_right).sum()),
        p_value=mcnemar_test(was_right, is_right),
        is_better=is_any_used and (values[1], -after.loss) > (values[0], -before.loss),
    )
    return PseudoLabels(labeler, confidence, after.penalty, gain)


@dataclass(frozen=True)
class _Held:
    """The logits of held-out images by probes of a penalty, and their loss when calibrated."""

    penalty: float
    logits: Tensor
    loss: float


class _Arm:
    """The logits of held-out images by probes of several penalties, of which the best is chosen."""

    def __init__(self) -> None:
        self._logits: dict[float, list[Tensor]] = {}

    def add(self, probes: Sequence[LinearProbe], embeddings: Tensor) -> None:
        """Add the logits of a fold's held-out images."""
        for probe in probes:
            self._logits.setdefault(probe.penalty, []).append(probe.logits(embeddings))

    def choose(self, labels: Tensor) -> _Held:
        """Return the logits with the penalty that has the lowest loss."""
        held = [(penalty, torch.cat(logits)) for penalty, logits in self._logits.items()]
        return min(
            (_Held(penalty, logits, calibrated_loss(logits, labels)) for penalty, logits in held),
            key=lambda one: one.loss,
        )


def fit_probes(frozen: FrozenFeatures, indices: Tensor) -> list[LinearProbe]:
    """Return a probe for each penalty, fitted on labeled images alone."""
    targets = frozen.task.soft_targets(frozen.labels[indices])
    return fit_linear_probes(frozen.embeddings[indices], targets, frozen.compute_loss, frozen.bias)


def fit_with_labels(
    labeler: PseudoLabeler, indices: Tensor, labels: PredictedLabels, confidence: float, penalties: tuple[float, ...]
) -> list[LinearProbe]:
    """Return a probe for each penalty, fitted on labeled images and on those whose predicted label is used."""
    frozen, used = labeler.frozen, labels.are_used(confidence)
    embeddings = torch.cat([frozen.embeddings[indices], labeler.unlabeled[used]])
    targets = torch.cat([frozen.labels[indices], labels.classes[used]])
    return fit_linear_probes(embeddings, frozen.task.soft_targets(targets), frozen.compute_loss, frozen.bias, penalties)


def calibrated_loss(logits: Tensor, labels: Tensor) -> float:
    """Return the mean negative log-likelihood of labels with the best temperature of the logits."""
    temperature, _ = fit_temperature(logits, labels, "classification", temperature_only=True)
    return F.cross_entropy(logits.double() / temperature, labels).item()
