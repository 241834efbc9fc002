"""Targets as the tensors that losses and metrics take."""

from collections.abc import Sequence

import torch
from torch import Tensor

from megavit.config.target import TargetKind
from megavit.data.dataset import Sample


def target_tensor(samples: Sequence[Sample], target: TargetKind, classes: int) -> Tensor:
    """The targets of samples, all of one kind; `classes` is the number of classes or labels.

    Returns:
        "classification": int64 (N,), indices; "multilabel": bool (N, labels); "regression": float32 (N,).
    """
    match target:
        case "classification":
            return torch.tensor([sample.label for sample in samples], dtype=torch.int64)
        case "multilabel":
            present = torch.zeros(len(samples), classes, dtype=torch.bool)
            for row, sample in zip(present, samples, strict=True):
                row[list(sample.labels)] = True
            return present
        case "regression":
            return torch.tensor([sample.value for sample in samples], dtype=torch.float32)


def num_outputs(target: TargetKind, classes: int) -> int:
    """Logits that a model needs for `classes` classes or labels, or a score."""
    return 1 if target == "regression" else classes
