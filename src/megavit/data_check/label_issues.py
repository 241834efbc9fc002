"""Find label errors and confusable classes from out-of-fold predictions."""

from dataclasses import dataclass

import torch
from torch import Tensor

from megavit.data.dataset import LabeledImages
from megavit.data_check.confident_learning import calibrate_probabilities, score_label_issues
from megavit.data_check.finding import Finding

LABEL_ERROR_SCORE = 0.999
"""Minimum score of a probable label error. Of 60 labels swapped among 6,000 images of Fashion-MNIST, 40 were among the
55 above it, and 53 among the 191 above `POSSIBLE_ERROR_SCORE` (`benchmarks/data/planted_faults.py`, seed 0)."""
POSSIBLE_ERROR_SCORE = 0.98
"""Minimum score of a possible label error."""
MIN_CONFUSED_SHARE = 0.05
"""Minimum share of two classes' images predicted as the other class for the two to be confusable."""
_MAX_CONFUSABLE = 10


@dataclass(frozen=True)
class OutOfFoldPredictions:
    """Predictions for images by models that were not trained on them.

    Attributes:
        probabilities: (M, classes), rows summing to 1.
        indices: (M,) sample indices of the images.
        model: short description of the model.
    """

    probabilities: Tensor
    indices: Tensor
    model: str


@dataclass(frozen=True)
class LabelReview:
    """A review of the labels by out-of-fold predictions.

    Attributes:
        images: number of reviewed images.
        agreement: share of the images whose label is the predicted class.
        is_weak: whether the model is hardly better than always predicting the largest class: it then finds nothing.
    """

    findings: list[Finding]
    images: int
    agreement: float
    model: str
    is_weak: bool = False


def review_labels(images: LabeledImages, predictions: OutOfFoldPredictions) -> LabelReview:
    """Return probable and possible label errors, and confusable classes, unless the model is too weak."""
    labels = torch.tensor([images.samples[i].label for i in predictions.indices.tolist()])
    probabilities = calibrate_probabilities(predictions.probabilities, labels)
    predicted = probabilities.argmax(dim=1)
    agreement = (predicted == labels).double().mean().item()
    chance = labels.bincount().max().item() / len(labels)
    if agreement <= chance + (1 - chance) / 4:
        return LabelReview([], len(labels), agreement, predictions.model, is_weak=True)
    findings: list[Finding] = []
    issues = score_label_issues(probabilities, labels)
    for i, suggested, score in zip(*(column.tolist() for column in issues), strict=True):
        if score < POSSIBLE_ERROR_SCORE:
            break
        label = int(labels[i])
        p_suggested, p_label = (f"{probabilities[i, index].item():.1%}" for index in (suggested, label))
        message = (
            f"labeled {images.classes[label]}, looks like {images.classes[suggested]}: {p_suggested} against {p_label}"
        )
        kind = "label_error" if score >= LABEL_ERROR_SCORE else "possible_label_error"
        name = images.samples[int(predictions.indices[i])].name
        findings.append(Finding(kind, message, (name,), images.classes[suggested], score))
    findings += _find_confusable_classes(labels, predicted, images.classes)
    return LabelReview(findings, len(labels), agreement, predictions.model)


def _find_confusable_classes(labels: Tensor, predicted: Tensor, classes: tuple[str, ...]) -> list[Finding]:
    count = len(classes)
    confusion = (labels * count + predicted).bincount(minlength=count**2).view(count, count).double()
    images = confusion.sum(dim=1)
    confused = ((confusion + confusion.T) / (images[:, None] + images).clamp_min(1)).triu(diagonal=1)
    findings: list[Finding] = []
    for cell in confused.flatten().argsort(descending=True)[:_MAX_CONFUSABLE].tolist():
        a, b = divmod(cell, count)
        share = confused[a, b].item()
        if share >= MIN_CONFUSED_SHARE and confusion[a, b] + confusion[b, a] > 2:
            message = f"{classes[a]} and {classes[b]}: {share:.0%} of both are predicted as the other"
            findings.append(Finding("confusable_classes", message, score=share))
    return findings
