"""Divisions of images for cross-validation: each image is answered for once, by what was learnt from others."""

from typing import NamedTuple

import torch
from torch import Tensor

from megavit.runtime.seeds import generator

FOLDS = 5


class Fold(NamedTuple):
    """Places, ascending, of the images that are learnt from, and of those that are answered for."""

    learnt: Tensor
    held: Tensor


def folds(targets: Tensor, count: int = FOLDS, seed: int = 0) -> list[Fold]:
    """`count` folds, fewer where there are fewer images, every class (or part of the scores' range) spread over all.

    Args:
        targets: as `megavit.data.targets.targets_of` gives them; at least two images.
        count: at least two.
        seed: of the order.
    """
    order = torch.randperm(len(targets), generator=generator(seed))
    if targets.ndim == 1:
        order = order[targets[order].argsort(stable=True)]
    # Neighbours in this order are alike, and go to different folds.
    number = torch.empty_like(order)
    number[order] = torch.arange(len(order)) % min(count, len(order))
    return [
        Fold(torch.nonzero(number != fold).flatten(), torch.nonzero(number == fold).flatten())
        for fold in range(min(count, len(order)))
    ]
