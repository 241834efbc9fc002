"""Divisions of images for cross-validation: each image is answered for once, by what was learned from others."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from megavit.runtime.seeds import generator

NUM_FOLDS = 5


class Fold(NamedTuple):
    """Places, ascending, of the images that are learned from, and of those that are answered for."""

    learned: Tensor
    held: Tensor


def make_folds(
    targets: Tensor, count: int = NUM_FOLDS, seed: int = 0, *, digests: Sequence[str] | None = None
) -> list[Fold]:
    """Return `count` folds, fewer where there are fewer images, every class (or part of the range) spread over all.

    Args:
        targets: as `megavit.data.targets.targets_of` gives them; at least two images.
        count: at least two.
        seed: of the order.
        digests: equal for identical files, which go to the same fold: an image is no judge of its own copy. None: no
            two are the same.
    """
    order = torch.randperm(len(targets), generator=generator(seed))
    if targets.ndim == 1:
        order = order[targets[order].argsort(stable=True)]
    # Neighbors in this order are alike, and go to different folds.
    number = torch.empty_like(order)
    number[order] = torch.arange(len(order)) % min(count, len(order))
    if digests is not None:
        first: dict[str, int] = {}
        number = number[torch.tensor([first.setdefault(digest, place) for place, digest in enumerate(digests)])]
    found = [
        Fold(torch.nonzero(number != fold).flatten(), torch.nonzero(number == fold).flatten())
        for fold in number.unique().tolist()
    ]
    # Images that are all the same leave nothing to learn from: then each counts for itself.
    return found if len(found) > 1 or digests is None else make_folds(targets, count, seed)
