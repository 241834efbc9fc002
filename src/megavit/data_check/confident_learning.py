"""Score which labels are probably wrong with confident learning on out-of-fold predictions.

Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels (arXiv 1911.00068), section 3.
An image is confidently of class j if its probability of j reaches the mean for images labeled j; if j is not its
label, the label is an issue. The tests hold the issues equal to those of `cleanlab`, which would add pandas to what
users install, and ranks by the margin.

The paper ranks issues by the margin between the two probabilities; here they are ranked by their ratio. Of 60 labels
swapped among 6,000 images of Fashion-MNIST, the first 60 issues contained 40 by the ratio and 30 by the margin
(`benchmarks/data/planted_faults.py`, seed 0).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_CLASS_IMAGES = 5
"""Minimum number of images of a class for a reliable mean confidence; smaller classes have no issues."""


class LabelIssueScores(NamedTuple):
    """Label issues, the most probable first.

    Attributes:
        indices: (K,) image indices.
        suggested: (K,) class suggested for each image.
        scores: (K,) in (0.5, 1]: p(suggested) / (p(suggested) + p(label)).
    """

    indices: Tensor
    suggested: Tensor
    scores: Tensor


def mean_confidence(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return each class's mean probability over the images with this label (equation 2), (classes,); inf for few."""
    classes = probabilities.shape[1]
    images = labels.bincount(minlength=classes)
    own = probabilities.gather(1, labels[:, None])[:, 0]
    total = torch.zeros(classes, dtype=probabilities.dtype).scatter_add(0, labels, own)
    return torch.where(images >= MIN_CLASS_IMAGES, total / images.clamp_min(1), torch.inf)


def confident_classes(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the most probable class whose mean confidence each image reaches (equation 1), (N,); -1 if none."""
    reached = probabilities >= mean_confidence(probabilities, labels)
    likeliest = torch.where(reached, probabilities, -1.0).argmax(dim=1)
    return torch.where(reached.any(dim=1), likeliest, -1)


def score_label_issues(probabilities: Tensor, labels: Tensor) -> LabelIssueScores:
    """Return the issues: labels off the diagonal of the confident joint that are less probable than the other class.

    Args:
        probabilities: (N, classes) out-of-fold probabilities, rows summing to 1.
        labels: (N,) given labels.
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
    """Return the probabilities at the maximum-likelihood temperature for labels that are not issues.

    Temperature scaling as in arXiv 1706.04599, section 4.2; wrong labels would make any model seem overconfident.
    """
    from scipy.optimize import minimize_scalar

    logits = probabilities.double().clamp_min(1e-12).log()
    is_trusted = torch.ones(len(labels), dtype=torch.bool)
    is_trusted[score_label_issues(probabilities, labels).indices] = False

    def loss(power: float) -> float:
        return F.cross_entropy(logits[is_trusted] * 2.0**power, labels[is_trusted]).item()

    best = minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded").x
    return (logits * 2.0**best).softmax(dim=1)
