"""Compute the validation loss, and the metric that selects the best epoch."""

import numpy as np
import torch
from torch import Tensor, nn

from megavit.config.target import Target
from megavit.predict.forward import compute_logits
from megavit.training.context import TrainSetup
from megavit.training.data import validation_batch_size
from megavit.training.history import LabelMetric, Validation


def validate(model: nn.Module, setup: TrainSetup) -> Validation:
    """Return the unsmoothed loss and the task's metric of `model` on the validation images; a collective operation."""
    task, loader = setup.task, setup.val_loader
    logits = loader.map(
        lambda batches: compute_logits(model, batches, task.preprocessing, task.dtype),
        setup.state.parallel,
        validation_batch_size(setup.state.model.config, setup.state.device),
    )
    logits = logits[:, : task.num_classes]
    loss = task.validation_loss(logits, loader.labels)
    return Validation(loss.item(), compute_metric(task.metric, logits, loader.labels, task.target))


def compute_metric(metric: LabelMetric, logits: Tensor, labels: Tensor, target: Target) -> float:
    """Return the metric (higher is better) of logits (N, outputs) for `megavit.data.targets.target_tensor` labels."""
    match metric:
        case "accuracy":
            return (logits.argmax(dim=1) == labels).float().mean().item()
        case "balanced accuracy":
            is_correct = logits.argmax(dim=1) == labels
            images, correct = labels.bincount(), labels[is_correct].bincount(minlength=int(labels.max()) + 1)
            return (correct[images > 0] / images[images > 0]).mean().item()
        case "mean average precision":
            return compute_mean_average_precision(logits, labels)
        case "R²":
            errors = (logits[:, 0].double() * target.std + target.mean - labels).square().mean()
            # Equal targets have no variance; the training variance ranks epochs in the same order.
            variance = labels.double().var(correction=0).item() or target.std**2
            return 1 - errors.item() / variance


def compute_mean_average_precision(logits: Tensor, labels: Tensor) -> float:
    """Return the mean average precision over the labels that occur, or 0 if none does."""
    from sklearn.metrics import average_precision_score

    occurs = labels.any(dim=0)
    if not occurs.any():
        return 0.0
    values = [
        average_precision_score(labels[:, label].numpy(), logits[:, label].numpy())
        for label in torch.nonzero(occurs).flatten().tolist()
    ]
    return float(np.mean(values))
