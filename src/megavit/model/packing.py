"""Images of different sizes in one sequence, without padding: each token meets only those of its own image.

The idea is NaViT's (arXiv 2307.06304, section 2). Images are put in order of their number of tokens, so that those of
one length lie side by side, and can be seen as a batch without a copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from megavit.model.pos_embed import Rotation


@dataclass(frozen=True)
class Packing:
    """How a sequence (1, T, ...) is divided.

    Attributes:
        groups: (images, tokens of each) of neighbors of one length, in order.
        starts: (B + 1,) int32, where each image begins, then T; on the device of the tokens.
    """

    groups: tuple[tuple[int, int], ...]
    starts: Tensor

    @property
    def images(self) -> int:
        return sum(count for count, _ in self.groups)

    @property
    def longest(self) -> int:
        """Tokens of the longest image."""
        return max(length for _, length in self.groups)

    def split(self, x: Tensor) -> list[Tensor]:
        """(1, T, ...) as one view (images, tokens of each, ...) a group."""
        parts = x[0].split([count * length for count, length in self.groups])
        return [part.unflatten(0, group) for part, group in zip(parts, self.groups, strict=True)]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """The reverse of `split`."""
        return torch.cat([part.flatten(0, 1) for part in parts])[None]

    def repeat(self, values: Tensor) -> Tensor:
        """One value an image, (B, 1, 1), as one a token: (1, T, 1)."""
        parts = values.split([count for count, _ in self.groups])
        return self.join([part.expand(-1, length, -1) for part, (_, length) in zip(parts, self.groups, strict=True)])


def by_size(images: Sequence[Tensor], grids: Sequence[tuple[int, int]]) -> tuple[list[int], list[Tensor]]:
    """The order in which images (C, height, width) are packed, as their places, and stacks of those of one grid."""

    def key(place: int) -> tuple[int, int]:
        rows, columns = grids[place]
        return rows * columns, rows

    order = sorted(range(len(images)), key=key)
    stacks = [torch.stack([images[place] for place in places]) for _, places in groupby(order, key)]
    return order, stacks


def pack(stacks: Sequence[tuple[Tensor, Rotation | None]]) -> tuple[Tensor, Rotation | None, Packing]:
    """Tokens (b, t, D) of each stack, in order of t, as one sequence (1, T, D), and their rotations as one."""
    tokens = [x for x, _ in stacks]
    groups = [(sum(x.shape[0] for x in alike), length) for length, alike in groupby(tokens, key=lambda x: x.shape[1])]
    lengths = torch.tensor([0] + [length for count, length in groups for _ in range(count)])
    starts = lengths.cumsum(0).to(tokens[0].device, torch.int32)
    packing = Packing(tuple(groups), starts)
    turns = [_whole(rotation, x) for x, rotation in stacks if rotation is not None]
    rotation = Rotation(*(packing.join(parts)[0] for parts in zip(*turns, strict=True))) if turns else None
    return packing.join(tokens), rotation, packing


def _whole(rotation: Rotation, tokens: Tensor) -> Rotation:
    """The rotation of a stack's patches as one of all its tokens, each (b, t, K): its prefix tokens are not turned."""
    count, length, _ = tokens.shape

    def whole(values: Tensor, fill: float) -> Tensor:
        patches = values.flatten(end_dim=-3) if values.ndim > 2 else values[None]
        prefix = patches.new_full((1, length - patches.shape[-2], patches.shape[-1]), fill)
        return torch.cat([prefix.expand(len(patches), -1, -1), patches], dim=1).expand(count, -1, -1)

    return Rotation(whole(rotation.cos, 1.0), whole(rotation.sin, 0.0))
