"""Position embeddings that map (patch tokens, grid) to (patch tokens, rotation or None), for any grid."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megavit.config.vit import ViTConfig
from megavit.runtime.device import has_float64

Grid = tuple[int, int]


class Rotation(NamedTuple):
    """Float32 cosines and sines of rotary positions: (N, K), or (B, 1, N, K) if each image has its own patches."""

    cos: Tensor
    sin: Tensor


class LearnedPositions(nn.Module):
    """A learned vector per patch, resampled for images of another size."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.grid = config.grid
        self.table = nn.Parameter(torch.empty(config.num_patches, config.dim))  # sharded evenly by rows

    def at(self, grid: Grid) -> Tensor:
        """Return the position vectors (N, D) of `grid`, resampled (antialiased bicubic) unless it is the table's."""
        if grid == self.grid:
            return self.table
        # F.interpolate on the table is wrong for one column on a CPU (PyTorch 2.15), and its gradient does not compile
        # for symbolic sizes. Autocast leaves float64 alone; for a device without it, the CPU computes.
        device = self.table.device if has_float64(self.table.device) else torch.device("cpu")
        sizes = zip(self.grid, grid, strict=True)
        row_weights, column_weights = (_resampling_weights(old, new, device) for old, new in sizes)
        table = self.table.to(device).double().unflatten(0, self.grid)
        positions = torch.einsum("yr,xc,rcd->yxd", row_weights, column_weights, table).flatten(0, 1)
        return positions.to(self.table.device, self.table.dtype)

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Rotation | None]:
        return tokens + self.at(grid), None


def _resampling_weights(old: int, new: int, device: torch.device) -> Tensor:
    """Return the float64 weights (new, old) of antialiased bicubic resampling along one axis."""
    unit = torch.eye(old, dtype=torch.float64, device=device)[None, None]
    return F.interpolate(unit, size=(old, new), mode="bicubic", antialias=True, align_corners=False)[0, 0].T


class SincosPositions(nn.Module):
    """Fixed sines and cosines of column and row, half of the channels each (arXiv 2205.01580, section 2)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.dim = config.dim

    def at(self, grid: Grid, device: torch.device) -> Tensor:
        """Return the position vectors (N, D) of `grid` in float32."""
        rows, columns = grid
        frequency = 10_000 ** -torch.linspace(0, 1, self.dim // 4, device=device)
        x = torch.arange(columns, device=device).outer(frequency)
        y = torch.arange(rows, device=device).outer(frequency)
        columns_part = torch.cat([x.sin(), x.cos()], dim=1)[None].expand(rows, -1, -1)
        rows_part = torch.cat([y.sin(), y.cos()], dim=1)[:, None].expand(-1, columns, -1)
        return torch.cat([columns_part, rows_part], dim=2).flatten(0, 1)

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Rotation | None]:
        return tokens + self.at(grid, tokens.device).to(tokens.dtype), None


class RotaryPositions(nn.Module):
    """Axial 2-D rotary positions (arXiv 2104.09864) as in DINOv3 (arXiv 2508.10104, section 3.2).

    Coordinates run from -1 to 1 over the image at any resolution.
    """

    base = 100.0

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.dim_head = config.dim_head

    def at(self, grid: Grid, device: torch.device) -> Rotation:
        """Return the rotation (N, K) of `grid`."""
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
    """Axial 2-D rotary positions in units of the patches of a reference grid, at any resolution.

    EVA-02 (arXiv 2303.11331, section 2.2) counts from 0 over 16 × 16 patches, its pre-training grid. With `native`, as
    in Perception Encoders (arXiv 2504.13181), coordinates count from 1 over the model's own grid, columns before rows.
    """

    base = 10_000.0

    def __init__(self, config: ViTConfig, *, native: bool = False) -> None:
        super().__init__()
        self.dim_head = config.dim_head
        self.first = 1 if native else 0
        self.reference = config.grid if native else (16, 16)
        self.columns_first = native

    def at(self, grid: Grid, device: torch.device) -> Rotation:
        """Return the rotation (N, K) of `grid`."""
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
    """Learned position vectors combined with rotary positions on a reference grid."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.learned = LearnedPositions(config)
        self.rotary = GridRotaryPositions(config, native=config.design.positions == "learned_rope_native")

    def at(self, grid: Grid, device: torch.device) -> Rotation:
        """Return the rotation (N, K) of `grid`."""
        return self.rotary.at(grid, device)

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Rotation | None]:
        return self.rotary(self.learned(tokens, grid)[0], grid)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate the last N of T tokens in `x` (B, H, T, K), the patches; prefix tokens are not rotated."""
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
