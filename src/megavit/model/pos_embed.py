"""Positions of patches: a learned table or sines added to tokens, or rotary, applied to queries and keys.

Each class maps (patch tokens, grid) to (patch tokens, rotation or None), for any grid. Letters of the shapes: see
`megavit.model`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megavit.config.vit import ViTConfig

Grid = tuple[int, int]


class Rotation(NamedTuple):
    """Cosines and sines of rotary positions, (N, K) or, where images keep different patches, (B, 1, N, K); float32."""

    cos: Tensor
    sin: Tensor


class LearnedPositions(nn.Module):
    """A learned vector per patch, resampled for images of another size.

    The table is (N, D), without a batch axis, so that sharding its first axis splits it evenly.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.grid = config.grid
        self.table = nn.Parameter(torch.empty(config.num_patches, config.dim))

    def at(self, grid: Grid) -> Tensor:
        """Return the vectors of `grid`, (N, D): the table itself, or its antialiased bicubic resampling."""
        if grid == self.grid:
            return self.table
        # Two matrix products, because F.interpolate itself is wrong on a CPU for one column (PyTorch 2.15), and
        # its gradient does not compile for symbolic sizes. In float64, which autocast does not touch.
        by_row, by_column = (_resampling(old, new, self.table) for old, new in zip(self.grid, grid, strict=True))
        table = self.table.double().unflatten(0, self.grid)
        return torch.einsum("yr,xc,rcd->yxd", by_row, by_column, table).flatten(0, 1).to(self.table.dtype)

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Rotation | None]:
        return tokens + self.at(grid), None


def _resampling(old: int, new: int, like: Tensor) -> Tensor:
    """Return weights (new, old), float64, of antialiased bicubic resampling along one axis."""
    unit = torch.eye(old, dtype=torch.float64, device=like.device)[None, None]
    return F.interpolate(unit, size=(old, new), mode="bicubic", antialias=True, align_corners=False)[0, 0].T


class SincosPositions(nn.Module):
    """Fixed sines and cosines of column and row, half of the channels each (arXiv 2205.01580, section 2)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.dim = config.dim

    def at(self, grid: Grid, device: torch.device) -> Tensor:
        """Return the vectors of `grid`, (N, D), float32."""
        rows, columns = grid
        frequency = 10_000 ** -torch.linspace(0, 1, self.dim // 4, device=device)
        x = torch.arange(columns, device=device).outer(frequency)
        y = torch.arange(rows, device=device).outer(frequency)
        by_column = torch.cat([x.sin(), x.cos()], dim=1)[None].expand(rows, -1, -1)
        by_row = torch.cat([y.sin(), y.cos()], dim=1)[:, None].expand(-1, columns, -1)
        return torch.cat([by_column, by_row], dim=2).flatten(0, 1)

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Rotation | None]:
        return tokens + self.at(grid, tokens.device).to(tokens.dtype), None


class RotaryPositions(nn.Module):
    """Axial 2-D rotary positions (arXiv 2104.09864), in the form of DINOv3 (arXiv 2508.10104, section 3.2).

    Coordinates run from -1 to 1 over the image, whatever its size, so that they mean the same at another resolution.
    """

    base = 100.0

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.dim_head = config.dim_head

    def at(self, grid: Grid, device: torch.device) -> Rotation:
        """Return the rotation of `grid`, of (N, K)."""
        rows, columns = grid
        quarter = self.dim_head // 4
        periods = self.base ** (torch.arange(quarter, device=device, dtype=torch.float32) / quarter)
        y = (torch.arange(rows, device=device) + 0.5) / rows * 2 - 1
        x = (torch.arange(columns, device=device) + 0.5) / columns * 2 - 1
        coordinates = torch.cartesian_prod(y, x)
        angles = (2 * math.pi * coordinates[:, :, None] / periods).flatten(1).repeat(1, 2)
        return Rotation(angles.cos(), angles.sin())

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Rotation | None]:
        return tokens, self.at(grid, tokens.device)


class GridRotaryPositions(nn.Module):
    """Axial 2-D rotary positions whose coordinates count the patches of a reference grid, whatever the image's.

    EVA-02's (arXiv 2303.11331, section 2.2) run from 0 over 16 × 16 patches, the grid of its pre-training. The
    `native` ones of a Perception Encoder (arXiv 2504.13181) run from 1 over the model's own grid, with columns before
    rows.
    """

    base = 10_000.0

    def __init__(self, config: ViTConfig, *, native: bool = False) -> None:
        super().__init__()
        self.dim_head = config.dim_head
        self.first = 1 if native else 0
        self.reference = config.grid if native else (16, 16)
        self.columns_first = native

    def at(self, grid: Grid, device: torch.device) -> Rotation:
        """Return the rotation of `grid`, of (N, K)."""
        quarter = self.dim_head // 4
        frequencies = self.base ** -(torch.arange(quarter, device=device, dtype=torch.float32) / quarter)
        y, x = (
            (torch.arange(count, device=device) + self.first) / count * reference
            for count, reference in zip(grid, self.reference, strict=True)
        )
        coordinates = torch.cartesian_prod(y, x)
        if self.columns_first:
            coordinates = coordinates.flip(1)
        angles = (coordinates[:, :, None] * frequencies).flatten(1).repeat(1, 2)
        return Rotation(angles.cos(), angles.sin())

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Rotation | None]:
        return tokens, self.at(grid, tokens.device)


class LearnedRotaryPositions(nn.Module):
    """A learned vector per patch, and rotary positions that count patches."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.learned = LearnedPositions(config)
        self.rotary = GridRotaryPositions(config, native=config.design.positions == "learned_rope_native")

    def at(self, grid: Grid, device: torch.device) -> Rotation:
        """Return the rotation of `grid`, of (N, K)."""
        return self.rotary.at(grid, device)

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Rotation | None]:
        return self.rotary(self.learned(tokens, grid)[0], grid)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate the patches among `x` (B, H, T, K), the last N of T; prefix tokens have no position and stay."""
    prefix, patches = x.tensor_split([x.shape[2] - rotation.cos.shape[-2]], dim=2)
    first, second = patches.chunk(2, dim=-1)
    rotated = patches * rotation.cos + torch.cat([-second, first], dim=-1) * rotation.sin
    return torch.cat([prefix, rotated.to(prefix.dtype)], dim=2)


POSITIONS = {
    "learned": LearnedPositions,
    "sincos": SincosPositions,
    "rope": RotaryPositions,
    "learned_rope": LearnedRotaryPositions,
    "learned_rope_native": LearnedRotaryPositions,
    "rope_grid": GridRotaryPositions,
}
