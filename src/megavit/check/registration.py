"""Whether two pictures are one: laid over each other as well as they can be, and compared.

A copy that was cropped is its original, shifted and stretched a little; what is made brighter or duller, the same in
other values. Both are found by Gauss-Newton steps on the squared difference (Lucas and Kanade 1981), for many pairs
at once.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

STEPS = 4
STRETCH, SHIFT = 0.3, 0.3
"""Most that a picture is stretched or squeezed, as a share of it, and shifted, as a share of half a side."""
_DAMPING = 1e-3


def likeness(one: Tensor, other: Tensor) -> Tensor:
    """(P,) in [-1, 1]: how well each pair agrees in its details, at best; 1 for the same picture.

    Args:
        one, other: (P, S, S), floats of any scale; none of one value only.
    """
    one, other = standard(one), standard(other)
    # The whole can be laid over its part, not the other way round; and we do not know which is which.
    return torch.maximum(agreement(laid_over(one, other), other), agreement(laid_over(other, one), one))


def laid_over(moved: Tensor, fixed: Tensor) -> Tensor:
    """`moved`, shifted and stretched along both axes until it is nearest to `fixed`; as it is where that is nearer."""
    count, side = len(moved), moved.shape[-1]
    axis = (torch.arange(side) * 2 + 1) / side - 1
    across, down = axis.expand(side, side), axis[:, None].expand(side, side)
    # Stretch and shift across, stretch and shift down.
    start = torch.tensor([1.0, 0.0, 1.0, 0.0])
    place = start.repeat(count, 1)
    best, least = moved, difference(moved, fixed)
    warped = moved
    for _ in range(STEPS):
        slope_down, slope_across = torch.gradient(warped, spacing=2 / side, dim=(1, 2))
        columns = [slope_across * across, slope_across, slope_down * down, slope_down, warped, torch.ones_like(warped)]
        change = torch.stack([column.flatten(1) for column in columns], dim=2)  # (P, S·S, 6)
        normal = change.mT @ change
        normal += _DAMPING * normal.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None] * torch.eye(6)
        wanted = change.mT @ (fixed - warped).flatten(1)[:, :, None]
        place = place + torch.linalg.solve(normal, wanted)[:, :4, 0]
        place = torch.minimum(torch.maximum(place, start - _most()), start + _most())
        warped = standard(warp(moved, place))
        now = difference(warped, fixed)
        nearer = now < least
        best, least = torch.where(nearer[:, None, None], warped, best), torch.where(nearer, now, least)
    return best


def warp(pictures: Tensor, place: Tensor) -> Tensor:
    """Pictures (P, S, S), sampled where `place` (P, 4) says: stretch and shift across, stretch and shift down."""
    zero = torch.zeros(len(place))
    rows = [torch.stack([place[:, 0], zero, place[:, 1]], dim=1), torch.stack([zero, place[:, 2], place[:, 3]], dim=1)]
    grid = F.affine_grid(torch.stack(rows, dim=1), [len(place), 1, *pictures.shape[1:]], align_corners=False)
    return F.grid_sample(pictures[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def standard(pictures: Tensor) -> Tensor:
    """Each of mean 0 and deviation 1."""
    centered = pictures - pictures.mean(dim=(1, 2), keepdim=True)
    return centered / centered.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(1e-6)


def difference(one: Tensor, other: Tensor) -> Tensor:
    """(P,): the mean squared difference."""
    return (one - other).square().mean(dim=(1, 2))


def agreement(one: Tensor, other: Tensor) -> Tensor:
    """(P,): the correlation of what is left of each when its soft parts are taken away."""
    return (details(one) * details(other)).mean(dim=(1, 2))


def details(pictures: Tensor) -> Tensor:
    soft = F.avg_pool2d(pictures[:, None], 5, stride=1, padding=2, count_include_pad=False)[:, 0]
    return standard(pictures - soft)


def _most() -> Tensor:
    return torch.tensor([STRETCH, SHIFT, STRETCH, SHIFT])
