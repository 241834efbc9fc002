"""Convert targets between names, indices, and tensors for losses and metrics."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from megavit.config.target import TargetKind

if TYPE_CHECKING:
    from megavit.data.dataset import Sample

TargetValue = int | tuple[int, ...] | float
"""The index of a class, the sorted indices of labels, or a number."""

NamedTarget = str | tuple[str, ...] | float
"""The name of a class, the names of labels, or a number."""


def index_target(target: NamedTarget, indices: Mapping[str, int]) -> TargetValue:
    """Return a target with names replaced by indices."""
    match target:
        case str() as label:
            return indices[label]
        case tuple() as labels:
            return tuple(sorted(indices[label] for label in labels))
        case value:
            return value


def name_target(target: TargetValue, classes: Sequence[str]) -> NamedTarget:
    """Return a target with indices replaced by names."""
    match target:
        case int() as label:
            return classes[label]
        case tuple() as labels:
            return tuple(classes[label] for label in labels)
        case value:
            return value


def names_in(target: NamedTarget | None) -> tuple[str, ...]:
    """Return the names of the class or labels in a target; none for a number."""
    return (target,) if isinstance(target, str) else target if isinstance(target, tuple) else ()


def target_tensor(samples: Sequence["Sample"], target: TargetKind, classes: int) -> Tensor:
    """Return the targets of samples, given the number of classes or labels.

    Returns:
        int64 class indices (N,) for "classification", bool (N, labels) for "multilabel", or float32 (N,) for
        "regression".
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
    """Return the number of logits for a number of classes or labels, which is 1 for regression."""
    return 1 if target == "regression" else classes
