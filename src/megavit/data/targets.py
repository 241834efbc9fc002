"""Targets as the tensors that losses and metrics take."""

from collections.abc import Sequence

import torch
from torch import Tensor

from megavit.config.target import TargetKind
from megavit.data.dataset import Sample


def targets_of(samples: Sequence[Sample], target: TargetKind, classes: int) -> Tensor:
    """The targets of samples, all of one kind; `classes` is the number of classes or labels.

    Returns:
        "classes": int64 (N,), indices; "labels": bool (N, labels); "score": float32 (N,).
    """
    match target:
        case "classes":
            return torch.tensor([sample.label for sample in samples], dtype=torch.int64)
        case "labels":
            present = torch.zeros(len(samples), classes, dtype=torch.bool)
            for row, sample in zip(present, samples, strict=True):
                row[list(sample.labels)] = True
            return present
        case "score":
            return torch.tensor([sample.score for sample in samples], dtype=torch.float32)


def outputs(target: TargetKind, classes: int) -> int:
    """Logits that a model needs for `classes` classes or labels, or a score."""
    return 1 if target == "score" else classes
