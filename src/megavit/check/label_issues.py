"""What predictions for images that were not learned from say of their labels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from megavit.check.confident_learning import calibrated, doubts
from megavit.check.finding import Finding
from megavit.data.dataset import LabeledImages

SURE = 0.999
"""The least score of a label that is probably wrong; below, it is in doubt. Of 60 labels swapped among 6,000 images of
Fashion-MNIST, 40 were among the 55 above it, and 53 among the 191 above `DOUBTFUL`, after three minutes on one core
(`benchmarks/planted_faults.py`, seed 0)."""
DOUBTFUL = 0.98
"""The least score of a label in doubt; below, the picture is hard rather than its label."""
ALIKE = 0.05
"""The least share of two classes' images that are taken for the other one, for the two to look alike."""
_PAIRS = 10


@dataclass(frozen=True)
class OutOfFoldPredictions:
    """Predictions for some images, none by what has learned from them.

    Attributes:
        probabilities: (M, classes), rows summing to 1.
        places: (M,) of the images among the samples.
        judge: a few words on what answered.
    """

    probabilities: Tensor
    places: Tensor
    judge: str


@dataclass(frozen=True)
class LabelReview:
    """What was found by answers.

    Attributes:
        findings: none where the judge is `weak`.
        images: that were judged.
        agreement: the share of them that got the label they have.
        judge: see `OutOfFoldPredictions`.
        weak: hardly better than always naming the largest class.
    """

    findings: list[Finding]
    images: int
    agreement: float
    judge: str
    weak: bool = False


def review_labels(images: LabeledImages, answers: OutOfFoldPredictions) -> LabelReview:
    """Labels that are probably wrong, labels in doubt, and classes that look alike.

    Where the answers are hardly better than always naming the largest class, they say nothing.
    """
    labels = torch.tensor([images.samples[place].label for place in answers.places.tolist()])
    probabilities = calibrated(answers.probabilities, labels)
    answered = probabilities.argmax(dim=1)
    agreement = (answered == labels).double().mean().item()
    chance = labels.bincount().max().item() / len(labels)
    if agreement <= chance + (1 - chance) / 4:
        return LabelReview([], len(labels), agreement, answers.judge, weak=True)
    found: list[Finding] = []
    for place, other, score in zip(*(part.tolist() for part in doubts(probabilities, labels)), strict=True):
        if score < DOUBTFUL:
            break
        given, suggested = images.classes[int(labels[place])], images.classes[other]
        shares = [f"{probabilities[place, label].item():.1%}" for label in (other, int(labels[place]))]
        told = f"labeled {given}, looks like {suggested}: {shares[0]} against {shares[1]}"
        name = images.samples[int(answers.places[place])].name
        found.append(Finding("label" if score >= SURE else "doubtful", told, (name,), suggested, score))
    found += _alike(labels, answered, images.classes)
    return LabelReview(found, len(labels), agreement, answers.judge)


def _alike(labels: Tensor, answered: Tensor, classes: tuple[str, ...]) -> list[Finding]:
    """The pairs of classes that are most taken for each other."""
    count = len(classes)
    confusion = (labels * count + answered).bincount(minlength=count**2).view(count, count).double()
    images = confusion.sum(dim=1)
    mixed = ((confusion + confusion.T) / (images[:, None] + images).clamp_min(1)).triu(diagonal=1)
    found: list[Finding] = []
    for place in mixed.flatten().argsort(descending=True)[:_PAIRS].tolist():
        one, other = divmod(place, count)
        share = mixed[one, other].item()
        if share >= ALIKE and confusion[one, other] + confusion[other, one] > 2:
            told = f"{classes[one]} and {classes[other]}: {share:.0%} of both are taken for the other"
            found.append(Finding("alike", told, score=share))
    return found
