"""Confident learning: which labels are probably wrong, by predictions for images that were not learned from.

Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels (arXiv 1911.00068), section 3.
An image counts as truly of the class j where its probability of j reaches what is usual for images labeled j; where
it counts as of another class than it is labeled, its label is in doubt.

The paper ranks these by the margin between the two probabilities. Here their ratio ranks, since a label that is next to
impossible tells more than a rival that is sure: of 60 labels swapped among 6,000 images of Fashion-MNIST, the first 60
in doubt had 40 by the ratio and 30 by the margin (`benchmarks/planted_faults.py`, seed 0, one minute on one core).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

FEW = 5
"""Images of a class, below which what is usual for it cannot be told: none of it is doubted, nor taken for it."""


class Doubts(NamedTuple):
    """Images whose label is in doubt, the most doubtful first.

    Attributes:
        places: (K,).
        suggested: (K,) the class that each counts as.
        scores: (K,) in (0.5, 1]: of the probability of that class and the given one together, its share.
    """

    places: Tensor
    suggested: Tensor
    scores: Tensor


def usual_confidence(probabilities: Tensor, labels: Tensor) -> Tensor:
    """(classes,): the mean probability of a class among the images labeled so (equation 2); infinite of `FEW`."""
    classes = probabilities.shape[1]
    images = labels.bincount(minlength=classes)
    own = probabilities.gather(1, labels[:, None])[:, 0]
    total = torch.zeros(classes, dtype=probabilities.dtype).scatter_add(0, labels, own)
    return torch.where(images >= FEW, total / images.clamp_min(1), torch.inf)


def counted_as(probabilities: Tensor, labels: Tensor) -> Tensor:
    """(N,): the likeliest of the classes whose usual confidence an image reaches (equation 1); -1 where it is none."""
    reached = probabilities >= usual_confidence(probabilities, labels)
    likeliest = torch.where(reached, probabilities, -1.0).argmax(dim=1)
    return torch.where(reached.any(dim=1), likeliest, -1)


def doubts(probabilities: Tensor, labels: Tensor) -> Doubts:
    """The off-diagonal of the confident joint, where the other class is also the likelier one.

    Args:
        probabilities: (N, classes), rows summing to 1, each by what was learned from other images.
        labels: (N,) as given.
    """
    counted = counted_as(probabilities, labels)
    own = probabilities.gather(1, labels[:, None])[:, 0]
    other = probabilities.gather(1, counted.clamp_min(0)[:, None])[:, 0]
    known = labels.bincount(minlength=probabilities.shape[1])[labels] >= FEW
    places = torch.nonzero((counted >= 0) & (counted != labels) & (other > own) & known).flatten()
    scores = (other / (own + other))[places]
    order = scores.argsort(descending=True, stable=True)
    return Doubts(places[order], counted[places][order], scores[order])


def calibrated(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Probabilities at the temperature that makes the labels that are not in doubt likeliest.

    As arXiv 1706.04599, section 4.2. A model that was trained briefly, or with soft labels, is less sure than it is
    right, one trained long more so; and wrong labels would make any model seem too sure.
    """
    from scipy.optimize import minimize_scalar

    logits = probabilities.double().clamp_min(1e-12).log()
    sound = torch.ones(len(labels), dtype=torch.bool)
    sound[doubts(probabilities, labels).places] = False

    def loss(power: float) -> float:
        return F.cross_entropy(logits[sound] * 2.0**power, labels[sound]).item()

    best = minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded").x
    return (logits * 2.0**best).softmax(dim=1)
