"""Confident learning: score which labels are probably wrong, by out-of-fold predictions.

Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels (arXiv 1911.00068), section 3.
An image counts as truly of class j where its probability of j reaches the mean for images labeled j; where it counts as
of another class than its label, the label is an issue. Not by `cleanlab`, whose license (AGPL) does not fit ours.

The paper ranks issues by the margin between the two probabilities. Here their ratio ranks, since a label that is next
to impossible is stronger evidence than a confident rival: of 60 labels swapped among 6,000 images of Fashion-MNIST, the
first 60 issues had 40 by the ratio and 30 by the margin (`benchmarks/planted_faults.py`, seed 0, one minute).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_CLASS_IMAGES = 5
"""Images of a class, below which its mean confidence is unreliable: its labels are no issues, nor is it suggested."""


class LabelIssueScores(NamedTuple):
    """Label issues, the most probable first.

    Attributes:
        indices: (K,) of the images.
        suggested: (K,) the class that each counts as.
        scores: (K,) in (0.5, 1]: the share of the suggested class in the probability of it and the label together.
    """

    indices: Tensor
    suggested: Tensor
    scores: Tensor


def mean_confidence(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the mean probability of each class among the images labeled so (equation 2), (classes,); inf for few."""
    classes = probabilities.shape[1]
    images = labels.bincount(minlength=classes)
    own = probabilities.gather(1, labels[:, None])[:, 0]
    total = torch.zeros(classes, dtype=probabilities.dtype).scatter_add(0, labels, own)
    return torch.where(images >= MIN_CLASS_IMAGES, total / images.clamp_min(1), torch.inf)


def confident_classes(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the likeliest class whose mean confidence each image reaches (equation 1), (N,); -1 where none."""
    reached = probabilities >= mean_confidence(probabilities, labels)
    likeliest = torch.where(reached, probabilities, -1.0).argmax(dim=1)
    return torch.where(reached.any(dim=1), likeliest, -1)


def score_label_issues(probabilities: Tensor, labels: Tensor) -> LabelIssueScores:
    """Score the off-diagonal of the confident joint, where the other class is also the likelier one.

    Args:
        probabilities: (N, classes), rows summing to 1, out of fold.
        labels: (N,) as given.
    """
    counted = confident_classes(probabilities, labels)
    own = probabilities.gather(1, labels[:, None])[:, 0]
    other = probabilities.gather(1, counted.clamp_min(0)[:, None])[:, 0]
    enough = labels.bincount(minlength=probabilities.shape[1])[labels] >= MIN_CLASS_IMAGES
    indices = torch.nonzero((counted >= 0) & (counted != labels) & (other > own) & enough).flatten()
    scores = (other / (own + other))[indices]
    order = scores.argsort(descending=True, stable=True)
    return LabelIssueScores(indices[order], counted[indices][order], scores[order])


def calibrate_probabilities(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the probabilities at the temperature with the highest likelihood of the labels that are no issues.

    As arXiv 1706.04599, section 4.2. A briefly trained model is underconfident, one trained long overconfident; and
    wrong labels would make any model seem overconfident.
    """
    from scipy.optimize import minimize_scalar

    logits = probabilities.double().clamp_min(1e-12).log()
    sound = torch.ones(len(labels), dtype=torch.bool)
    sound[score_label_issues(probabilities, labels).indices] = False

    def loss(power: float) -> float:
        return F.cross_entropy(logits[sound] * 2.0**power, labels[sound]).item()

    best = minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded").x
    return (logits * 2.0**best).softmax(dim=1)
