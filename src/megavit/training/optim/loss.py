"""Losses for each kind of target, with methods against class imbalance."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megavit.config.recipe import Balance
from megavit.config.target import Target
from megavit.distributed.dtensor_utils import take_shard, to_local

MAX_POSITIVE_WEIGHT = 20.0
"""Upper limit of a rare label's weight, so that a single image cannot dominate a batch."""


@dataclass(frozen=True)
class CrossEntropy:
    """Softmax cross-entropy with soft targets, for one class per image.

    Attributes:
        label_smoothing: share of the target spread over all classes.
        weights: (classes,) class weights, or None.
        priors: (classes,) log class frequencies added to the logits in training (logit adjustment with tau = 1, arXiv
            2007.07314, section 4.2), or None. The model then learns logits for balanced classes.
    """

    label_smoothing: float = 0.0
    weights: Tensor | None = None
    priors: Tensor | None = None

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of logits and target probabilities, both (B, classes)."""
        adjusted = logits if self.priors is None else logits + self.priors
        return F.cross_entropy(adjusted, targets, weight=self.weights, label_smoothing=self.label_smoothing)


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Sigmoid cross-entropy of each label independently, with optional weights (labels,) of the positive images."""

    pos_weight: Tensor | None = None

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of logits and targets in [0, 1], both (B, labels)."""
        return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=self.pos_weight)


@dataclass(frozen=True)
class SmoothL1:
    """Smooth L1 loss of the standardized target, with the mean and standard deviation of the training targets."""

    mean: float
    std: float

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of standardized logits and raw targets, both (B, 1)."""
        return F.smooth_l1_loss(logits, (targets - self.mean) / self.std)


Loss = CrossEntropy | BinaryCrossEntropy | SmoothL1


def make_loss(target: Target, targets: Tensor, classes: int, *, balance: Balance, label_smoothing: float) -> Loss:
    """Return the loss for training images with `targets` from `megavit.data.targets.target_tensor`."""
    match target.kind:
        case "classification":
            images = torch.bincount(targets, minlength=classes).clamp_min(1)
            weights = len(targets) / (classes * images) if balance == "loss" else None  # mean 1 over the images
            priors = (images / len(targets)).log() if balance == "logits" else None
            return CrossEntropy(label_smoothing, weights, priors)
        case "multilabel":
            positive = targets.sum(dim=0).clamp_min(1)
            ratio = ((len(targets) - positive) / positive).clamp(1, MAX_POSITIVE_WEIGHT)
            return BinaryCrossEntropy(ratio if balance == "loss" else None)
        case "regression":
            return SmoothL1(target.mean, target.std)


def in_float64(loss: Loss) -> Loss:
    """Return `loss` for float64 logits and targets on the CPU."""
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
    """Return targets that losses accept and that can be mixed: float (B, classes), (B, labels) or (B, 1).

    `targets` are integer classes (B,), boolean labels (B, labels), or float regression targets (B,).
    """
    if targets.is_floating_point():
        return targets[:, None]
    return targets.float() if targets.dtype == torch.bool else F.one_hot(targets, classes).float()


@torch.no_grad()
def init_head_bias(head: nn.Module, labels: Tensor) -> None:
    """Set the head's bias to the log odds of each label in `labels` (N, labels); further outputs keep theirs."""
    # One image is added on either side, so that the odds are finite.
    images = labels.sum(dim=0)
    assert isinstance(head, nn.Linear)  # as in every model with outputs
    odds = (images + 1) / (len(labels) - images + 1)
    bias = F.pad(odds.log(), (0, head.out_features - len(odds)))
    to_local(head.bias).copy_(take_shard(bias, head.bias))
