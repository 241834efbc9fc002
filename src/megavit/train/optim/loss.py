"""Losses: one for each kind of target, with the methods against class imbalance."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megavit.config.recipe import Balance
from megavit.config.target import Target
from megavit.distributed.dtensor_utils import take_shard, to_local

MAX_POSITIVE_WEIGHT = 20.0
"""A rare label's few images must not count so much that one of them steers a whole batch."""


@dataclass(frozen=True)
class CrossEntropy:
    """Softmax cross-entropy with soft targets, for one class an image.

    Attributes:
        label_smoothing: share of the target spread over all classes.
        weights: (classes,) factors of the classes, or None.
        priors: (classes,) log of each class's share, added to the logits in training (arXiv 2007.07314,
            section 4.2, with its tau = 1): what the model itself then learns is the logits for classes of
            equal size. Or None.
    """

    label_smoothing: float = 0.0
    weights: Tensor | None = None
    priors: Tensor | None = None

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over (B, classes) logits and shares of the classes."""
        adjusted = logits if self.priors is None else logits + self.priors
        return F.cross_entropy(adjusted, targets, weight=self.weights, label_smoothing=self.label_smoothing)


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Sigmoid cross-entropy of each label by itself.

    Attributes:
        pos_weight: (labels,) weights of the images that have the label, or None.
    """

    pos_weight: Tensor | None = None

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over (B, labels) logits and targets in [0, 1]."""
        return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=self.pos_weight)


@dataclass(frozen=True)
class SmoothL1:
    """Smooth L1 of a standardized target: squared near 0, absolute beyond one deviation, so that outliers do not rule.

    Attributes:
        mean, std: of the training targets.
    """

    mean: float
    std: float

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over logits (B, 1) and raw targets (B, 1)."""
        return F.smooth_l1_loss(logits, (targets - self.mean) / self.std)


Loss = CrossEntropy | BinaryCrossEntropy | SmoothL1


def make_loss(target: Target, targets: Tensor, classes: int, *, balance: Balance, label_smoothing: float) -> Loss:
    """Return the loss for training images with `targets`, as `megavit.data.targets.target_tensor` gives them."""
    match target.kind:
        case "classification":
            images = torch.bincount(targets, minlength=classes).clamp_min(1)
            # Of mean 1 over the images.
            weights = len(targets) / (classes * images) if balance == "loss" else None
            priors = (images / len(targets)).log() if balance == "logits" else None
            return CrossEntropy(label_smoothing, weights, priors)
        case "multilabel":
            positive = targets.sum(dim=0).clamp_min(1)
            ratio = ((len(targets) - positive) / positive).clamp(1, MAX_POSITIVE_WEIGHT)
            return BinaryCrossEntropy(ratio if balance == "loss" else None)
        case "regression":
            return SmoothL1(target.mean, target.std)


def in_float64(loss: Loss) -> Loss:
    """Return `loss` for logits and targets of float64, on the CPU."""
    match loss:
        case CrossEntropy():
            return replace(loss, weights=_double(loss.weights), priors=_double(loss.priors))
        case BinaryCrossEntropy():
            return replace(loss, pos_weight=_double(loss.pos_weight))
        case SmoothL1():
            return loss


def _double(numbers: Tensor | None) -> Tensor | None:
    return None if numbers is None else numbers.double()


def soft_targets(targets: Tensor, classes: int) -> Tensor:
    """Return targets as the losses take them, and as they can be mixed: float (B, classes), (B, labels) or (B, 1).

    Args:
        targets: whole numbers (B,) are classes, bools (B, labels) are labels, floats (B,) are scores.
        classes: number of classes.
    """
    if targets.is_floating_point():
        return targets[:, None]
    return targets.float() if targets.dtype == torch.bool else F.one_hot(targets, classes).float()


@torch.no_grad()
def init_head_bias(head: nn.Module, labels: Tensor) -> None:
    """Set the head's bias to each label's log odds in `labels` (N, labels): training need not find them first."""
    # One image more on either side, so that a label on all images or hardly any starts at a finite place.
    images = labels.sum(dim=0)
    assert isinstance(head, nn.Linear)  # as of every model with outputs
    odds = (images + 1) / (len(labels) - images + 1)
    to_local(head.bias).copy_(take_shard(odds.log(), head.bias))
