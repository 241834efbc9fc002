"""Confident learning: which labels are probably wrong, by predictions for images that were not learnt from.

Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels (arXiv 1911.00068), section 3.
An image counts as truly of the class j where its probability of j reaches what is usual for images labelled j; where
it counts as of another class than it is labelled, its label is in doubt, the more the likelier that class is.
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
        margins: (K,) in (0, 1]: how much likelier that class is than the given one (the paper's normalised margin,
            of its section 3.2, with the other sign).
    """

    places: Tensor
    suggested: Tensor
    margins: Tensor


def usual_confidence(probabilities: Tensor, labels: Tensor) -> Tensor:
    """(classes,): the mean probability of a class among the images labelled so (equation 2); infinite of `FEW`."""
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
        probabilities: (N, classes), rows summing to 1, each by what was learnt from other images.
        labels: (N,) as given.
    """
    counted = counted_as(probabilities, labels)
    own = probabilities.gather(1, labels[:, None])[:, 0]
    other = probabilities.gather(1, counted.clamp_min(0)[:, None])[:, 0]
    known = labels.bincount(minlength=probabilities.shape[1])[labels] >= FEW
    places = torch.nonzero((counted >= 0) & (counted != labels) & (other > own) & known).flatten()
    margins = (other - own)[places]
    order = margins.argsort(descending=True, stable=True)
    return Doubts(places[order], counted[places][order], margins[order])


def calibrated(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Probabilities at the temperature that makes the given labels likeliest (arXiv 1706.04599, section 4.2).

    A model that was trained briefly, or with soft labels, is less sure than it is right, one trained long more so.
    """
    from scipy.optimize import minimize_scalar

    logits = probabilities.double().clamp_min(1e-12).log()

    def loss(power: float) -> float:
        return F.cross_entropy(logits * 2.0**power, labels).item()

    best = minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded").x
    return (logits * 2.0**best).softmax(dim=1)
