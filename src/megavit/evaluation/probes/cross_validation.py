"""Make stratified cross-validation folds in which identical files stay together."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from megavit.runtime.seeds import generator

NUM_FOLDS = 5


class Fold(NamedTuple):
    """A fold: ascending indices of its training images and of its held-out images."""

    train: Tensor
    held_out: Tensor


def make_folds(
    targets: Tensor, count: int = NUM_FOLDS, seed: int = 0, *, digests: Sequence[str] | None = None
) -> list[Fold]:
    """Return `count` stratified folds, or one per image if there are fewer images.

    Args:
        targets: targets as returned by `megavit.data.targets.target_tensor`, for at least two images. Classes, or the
            range of a regression target, are spread over all folds.
        count: number of folds, at least two.
        digests: file digests; images with equal digests go to the same fold, so that no image is tested on a model
            trained on its copy. None: all files are distinct.
    """
    order = torch.randperm(len(targets), generator=generator(seed))
    if targets.ndim == 1:
        order = order[targets[order].argsort(stable=True)]
    # Similar targets are adjacent in this order, and go to different folds.
    fold_index = torch.empty_like(order)
    fold_index[order] = torch.arange(len(order)) % min(count, len(order))
    distinct = list(dict.fromkeys(digests or ()))
    if digests is not None and len(distinct) > 1:  # if all images are identical, each counts on its own
        first: dict[str, int] = {}
        fold_index = fold_index[torch.tensor([first.setdefault(digest, i) for i, digest in enumerate(digests)])]
        if len(fold_index.unique()) == 1:  # the few distinct files happened to share a fold
            fold_index = torch.tensor([distinct.index(digest) % count for digest in digests])
    return [
        Fold(torch.nonzero(fold_index != fold).flatten(), torch.nonzero(fold_index == fold).flatten())
        for fold in fold_index.unique().tolist()
    ]
