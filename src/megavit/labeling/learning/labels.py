"""Hold the labels of one moment, by the indices of images and classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from megavit.config.target import TargetKind


@dataclass(frozen=True)
class Labels:
    """The labels of a moment.

    Attributes:
        version: numbers that are equal only if the labels are.
        classes: names of the classes; new ones are added at the end.
        targets: class or labels of each labeled image, as indices of `classes`.
        decided: images that are labeled, skipped, or otherwise decided.
    """

    version: tuple[int, int]
    target: TargetKind
    classes: tuple[str, ...]
    targets: dict[int, tuple[int, ...]]
    decided: frozenset[int]

    def encode(self, indices: Sequence[int]) -> Tensor:
        """Return the targets of some labeled images, (N, classes), 0 or 1."""
        encoded = torch.zeros(len(indices), len(self.classes))
        for row, index in enumerate(indices):
            encoded[row, list(self.targets[index])] = 1.0
        return encoded
