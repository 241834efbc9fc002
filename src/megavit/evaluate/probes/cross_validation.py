"""Stratified folds for cross-validation in which identical files stay together."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from megavit.runtime.seeds import generator

NUM_FOLDS = 5


class Fold(NamedTuple):
    """Ascending indices of the training images and of the held-out images of one fold."""

    train: Tensor
    held_out: Tensor


def make_folds(
    targets: Tensor, count: int = NUM_FOLDS, seed: int = 0, *, digests: Sequence[str] | None = None
) -> list[Fold]:
    """Return stratified folds: `count` of them, or one an image if there are fewer images.

    Args:
        targets: as `megavit.data.targets.target_tensor` gives them; at least two images. Classes, or the range of a
            regression target, are spread over all folds.
        count: at least two.
        seed: of the order.
        digests: equal for identical files, which go to the same fold, so that no image is tested on its own copy.
            None: no two are the same.
    """
    order = torch.randperm(len(targets), generator=generator(seed))
    if targets.ndim == 1:
        order = order[targets[order].argsort(stable=True)]
    # Neighbors in this order are alike, and go to different folds.
    fold_index = torch.empty_like(order)
    fold_index[order] = torch.arange(len(order)) % min(count, len(order))
    distinct = list(dict.fromkeys(digests or ()))
    if digests is not None and len(distinct) > 1:  # identical images only: each counts as an image of its own
        first: dict[str, int] = {}
        fold_index = fold_index[torch.tensor([first.setdefault(digest, i) for i, digest in enumerate(digests)])]
        if len(fold_index.unique()) == 1:  # the few distinct files happened to share a fold
            fold_index = torch.tensor([distinct.index(digest) % count for digest in digests])
    return [
        Fold(torch.nonzero(fold_index != fold).flatten(), torch.nonzero(fold_index == fold).flatten())
        for fold in fold_index.unique().tolist()
    ]
