"""Packing of images of different sizes into one sequence without padding (NaViT, arXiv 2307.06304, section 2).

Each token attends only to its own image. Images are sorted by their number of tokens, so that those of one length are
adjacent and form a batch without a copy. Here t is the number of tokens of one image, and T that of the sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from megavit.model.pos_embed import Rotation
from megavit.runtime.device import copies_ahead


@dataclass(frozen=True)
class Packing:
    """The division of a sequence (1, T, ...) into images.

    Attributes:
        groups: (number of images, tokens per image) for each run of adjacent images of one length.
        starts: (B + 1,) int32, the start index of each image, then T, on the device of the tokens.
    """

    groups: tuple[tuple[int, int], ...]
    starts: Tensor

    @property
    def num_images(self) -> int:
        return sum(count for count, _ in self.groups)

    @property
    def max_tokens(self) -> int:
        """The largest number of tokens of an image."""
        return max(length for _, length in self.groups)

    def split(self, x: Tensor) -> list[Tensor]:
        """Return one view (images, t, ...) of `x` (1, T, ...) per group."""
        parts = x[0].split([count * length for count, length in self.groups])
        return [part.unflatten(0, group) for part, group in zip(parts, self.groups, strict=True)]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the sequence (1, T, ...) of groups (images, t, ...): the inverse of `split`."""
        return torch.cat([part.flatten(0, 1) for part in parts])[None]

    def repeat(self, values: Tensor) -> Tensor:
        """Return values per image (B, 1, 1) repeated for each token, (1, T, 1)."""
        parts = values.split([count for count, _ in self.groups])
        return self.join([part.expand(-1, length, -1) for part, (_, length) in zip(parts, self.groups, strict=True)])


def stack_by_grid(images: Sequence[Tensor], grids: Sequence[tuple[int, int]]) -> tuple[list[int], list[Tensor]]:
    """Return the indices of images (C, height, width) in packing order, and stacks of images with equal grids."""

    def key(index: int) -> tuple[int, int]:
        rows, columns = grids[index]
        return rows * columns, rows

    order = sorted(range(len(images)), key=key)
    stacks = [torch.stack([images[index] for index in indices]) for _, indices in groupby(order, key)]
    return order, stacks


def pack(stacks: Sequence[tuple[Tensor, Rotation | None]]) -> tuple[Tensor, Rotation | None, Packing]:
    """Return stacks of tokens (b, t, D), sorted by t, as one sequence (1, T, D), with its rotation and packing."""
    tokens = [x for x, _ in stacks]
    groups = [(sum(x.shape[0] for x in stack), length) for length, stack in groupby(tokens, key=lambda x: x.shape[1])]
    device = tokens[0].device
    lengths = torch.tensor([0] + [length for count, length in groups for _ in range(count)])
    starts = lengths.cumsum(0).to(device, torch.int32, non_blocking=copies_ahead(device))
    packing = Packing(tuple(groups), starts)
    rotations = [_with_prefix(rotation, x) for x, rotation in stacks if rotation is not None]
    rotation = Rotation(*(packing.join(parts)[0] for parts in zip(*rotations, strict=True))) if rotations else None
    return packing.join(tokens), rotation, packing


def _with_prefix(rotation: Rotation, tokens: Tensor) -> Rotation:
    """Return a stack's rotation extended to all its tokens, (b, t, K); prefix tokens are not rotated."""
    count, length, _ = tokens.shape

    def extend(values: Tensor, fill: float) -> Tensor:
        patches = values.flatten(end_dim=-3) if values.ndim > 2 else values[None]
        prefix = patches.new_full((1, length - patches.shape[-2], patches.shape[-1]), fill)
        return torch.cat([prefix.expand(len(patches), -1, -1), patches], dim=1).expand(count, -1, -1)

    return Rotation(extend(rotation.cos, 1.0), extend(rotation.sin, 0.0))
