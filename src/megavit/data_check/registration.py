"""Compare pairs of images up to shift, stretch, brightness and contrast.

Many pairs are registered at once by Gauss-Newton steps on the squared difference (Lucas and Kanade 1981).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

STEPS = 4
MAX_STRETCH, MAX_SHIFT = 0.3, 0.3
"""Maximum stretch as a share of the image, and maximum shift as a share of half a side."""
_DAMPING = 1e-3


def registered_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Return how well the details of each pair agree after registration, (P,) in [-1, 1]; 1 for the same image.

    Args:
        a, b: (P, S, S), floats of any scale, not constant.
    """
    a, b = standardize(a), standardize(b)
    # An image can be registered onto its crop but not the reverse, so both directions are tried.
    return torch.maximum(correlate_details(register(a, b), b), correlate_details(register(b, a), a))


def register(moving: Tensor, fixed: Tensor) -> Tensor:
    """Return `moving`, shifted and stretched along both axes to match `fixed`; unchanged if that is no closer."""
    count, side = len(moving), moving.shape[-1]
    axis = (torch.arange(side) * 2 + 1) / side - 1
    x, y = axis.expand(side, side), axis[:, None].expand(side, side)
    identity = torch.tensor([1.0, 0.0, 1.0, 0.0])
    max_change = torch.tensor([MAX_STRETCH, MAX_SHIFT, MAX_STRETCH, MAX_SHIFT])
    transform = identity.repeat(count, 1)
    best, min_difference = moving, squared_difference(moving, fixed)
    warped = moving
    for _ in range(STEPS):
        slope_y, slope_x = torch.gradient(warped, spacing=2 / side, dim=(1, 2))
        columns = [slope_x * x, slope_x, slope_y * y, slope_y, warped, torch.ones_like(warped)]
        jacobian = torch.stack([column.flatten(1) for column in columns], dim=2)  # (P, S·S, 6)
        normal = jacobian.mT @ jacobian
        normal += _DAMPING * normal.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None] * torch.eye(6)
        gradient = jacobian.mT @ (fixed - warped).flatten(1)[:, :, None]
        transform = transform + torch.linalg.solve(normal, gradient)[:, :4, 0]
        transform = torch.minimum(torch.maximum(transform, identity - max_change), identity + max_change)
        warped = standardize(warp(moving, transform))
        difference = squared_difference(warped, fixed)
        closer = difference < min_difference
        best = torch.where(closer[:, None, None], warped, best)
        min_difference = torch.where(closer, difference, min_difference)
    return best


def warp(images: Tensor, transform: Tensor) -> Tensor:
    """Return images (P, S, S) under transforms (P, 4): horizontal stretch and shift, vertical stretch and shift."""
    zero = torch.zeros(len(transform))
    rows = [
        torch.stack([transform[:, 0], zero, transform[:, 1]], dim=1),
        torch.stack([zero, transform[:, 2], transform[:, 3]], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), [len(transform), 1, *images.shape[1:]], align_corners=False)
    return F.grid_sample(images[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def standardize(images: Tensor) -> Tensor:
    """Return the images with mean 0 and standard deviation 1 each."""
    centered = images - images.mean(dim=(1, 2), keepdim=True)
    return centered / centered.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(1e-6)


def squared_difference(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean squared difference of each pair, (P,)."""
    return (a - b).square().mean(dim=(1, 2))


def correlate_details(a: Tensor, b: Tensor) -> Tensor:
    """Return the correlation of each pair's high frequencies, (P,)."""
    return (details(a) * details(b)).mean(dim=(1, 2))


def details(images: Tensor) -> Tensor:
    blurred = F.avg_pool2d(images[:, None], 5, stride=1, padding=2, count_include_pad=False)[:, 0]
    return standardize(images - blurred)
