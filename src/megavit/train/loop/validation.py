"""By what the best epoch is chosen: one figure for each kind of target, the higher the better."""

import numpy as np
import torch
from torch import Tensor

from megavit.config.recipe import Balance
from megavit.config.target import Target, TargetKind
from megavit.train.history import MetricName


def metric_of(target: TargetKind, balance: Balance) -> MetricName:
    """What is measured: where a remedy for uneven classes is wanted, every class counts the same here too."""
    match target:
        case "classification":
            return "accuracy" if balance in ("auto", "none") else "balanced accuracy"
        case "multilabel":
            return "mean average precision"
        case "regression":
            return "R²"


def measure_epoch(metric: MetricName, logits: Tensor, targets: Tensor, target: Target) -> float:
    """The metric of logits (N, outputs) for targets as `megavit.data.targets.target_tensor` gives them."""
    match metric:
        case "accuracy":
            return (logits.argmax(dim=1) == targets).float().mean().item()
        case "balanced accuracy":
            right = logits.argmax(dim=1) == targets
            images, hits = targets.bincount(), targets[right].bincount(minlength=int(targets.max()) + 1)
            return (hits[images > 0] / images[images > 0]).mean().item()
        case "mean average precision":
            return mean_average_precision(logits, targets)
        case "R²":
            errors = (logits[:, 0].double() * target.std + target.mean - targets).square().mean()
            # Equal scores have no variance to explain; the training scores' gives the same order of epochs.
            variance = targets.double().var(correction=0).item() or target.std**2
            return 1 - errors.item() / variance


def mean_average_precision(logits: Tensor, present: Tensor) -> float:
    """The mean over the labels that some image has; 0 where there are none."""
    from sklearn.metrics import average_precision_score

    known = present.any(dim=0)
    if not known.any():
        return 0.0
    # The mean of scikit-learn's own would also warn of labels without images.
    values = [
        average_precision_score(present[:, label].numpy(), logits[:, label].numpy())
        for label in torch.nonzero(known).flatten().tolist()
    ]
    return float(np.mean(values))
