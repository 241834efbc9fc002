"""Order images in many shards so that a few shards are read at a time, and can be read ahead."""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from megavit.data.byte_range import is_url
from megavit.data.dataset import Sample

WINDOW_SHARDS = 16
"""Number of shards in a window. With 100 shards of shuffled images, a batch of 256 then has as many classes as one
drawn from all shards, and pairs of images recur in the next epoch 1.35 times as often; with shards sorted by class,
a batch has a sixth of the classes (`benchmarks/data/shards.py`)."""


@dataclass(frozen=True)
class ShardWindows:
    """The grouping of images by shards, for an order that draws from a few shards at a time.

    Attributes:
        shard: index of each image's shard, int64 (count,).
        files: path or URL of each shard.
        size: number of shards in a window.
    """

    shard: Tensor
    files: tuple[str, ...]
    size: int = WINDOW_SHARDS

    def epoch(self, random: torch.Generator) -> tuple[list[int], list[tuple[int, list[int]]]]:
        """Return all indices, shuffled within windows of shuffled shards, and each window's (start, shards)."""
        indices = self.shard.argsort(stable=True)
        by_shard = indices.split(torch.bincount(self.shard, minlength=len(self.files)).tolist())
        order: list[int] = []
        windows: list[tuple[int, list[int]]] = []
        for chosen in torch.randperm(len(self.files), generator=random).split(self.size):
            shards = chosen.tolist()
            images = torch.cat([by_shard[shard] for shard in shards])
            windows.append((len(order), shards))
            order += images[torch.randperm(len(images), generator=random)].tolist()
        return order, windows

    def read_ahead(self, shards: Sequence[int]) -> None:
        """Have the system read local shards into its page cache in the background."""
        files = [self.files[shard] for shard in shards if not is_url(self.files[shard])]
        if files and hasattr(os, "posix_fadvise"):
            threading.Thread(target=_advise, args=(files,), daemon=True).start()


def make_shard_windows(samples: Sequence[Sample]) -> ShardWindows | None:
    """Return the windows of images in shards, or None if one window suffices or there are images outside shards."""
    files = sorted({sample.location.file for sample in samples if sample.location is not None})
    if len(files) <= WINDOW_SHARDS:
        return None
    index_of = {file: index for index, file in enumerate(files)}
    shard = [index_of[sample.location.file] for sample in samples if sample.location is not None]
    return ShardWindows(torch.tensor(shard), tuple(files), WINDOW_SHARDS) if len(shard) == len(samples) else None


def _advise(files: Sequence[str]) -> None:
    for file in files:
        try:
            descriptor = os.open(file, os.O_RDONLY)
        except OSError:
            continue  # reading it will raise
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)
