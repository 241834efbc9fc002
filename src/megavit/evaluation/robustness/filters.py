"""Blurs, displacements and random fields of which the corruptions are made, on float images (C, H, W).

Each computes what OpenCV, scikit-image or SciPy do in the reference code of ImageNet-C, borders included.
"""

import math

import torch
from scipy.ndimage import gaussian_filter
from torch import Generator, Tensor
from torch.nn import functional as F


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Blur with a Gaussian cut at four sigmas, with replicated borders."""
    return torch.from_numpy(gaussian_filter(image.numpy(), sigma, mode="nearest", truncate=4, axes=(1, 2)))


def disk_blur(image: Tensor, radius: float, softening: float, *, min_half: float, softening_half: int) -> Tensor:
    """Blur with a disk, as a lens out of focus does, with mirrored borders.

    Args:
        radius: in pixels. A disk of a fractional radius is a mix of those of the two whole ones around it.
        softening: sigma of the Gaussian that softens the disk's edge.
        min_half: the kernel has at least this half width; where the disk touches its border, softening mirrors it.
        softening_half: half width of that Gaussian.
    """
    half = math.ceil(max(min_half, radius))
    squares = torch.arange(-half, half + 1).square()
    distance = squares[:, None] + squares
    whole = math.floor(radius)
    inner, outer = ((distance <= size**2).float() for size in (whole, whole + 1))
    kernel = (inner / inner.sum()).lerp(outer / outer.sum(), radius - whole)
    soft = torch.exp(-torch.arange(-softening_half, softening_half + 1).square() / (2 * softening**2))
    soft /= soft.sum()
    kernel = F.conv2d(_mirror(kernel[None], softening_half)[:, None], torch.outer(soft, soft)[None, None])
    return F.conv2d(_mirror(image, half)[:, None], kernel)[:, 0]


def motion_blur(image: Tensor, sigma: float, length: float, angle: float, step: float) -> Tensor:
    """Blur in one direction, with the weights of half a Gaussian and replicated borders.

    Args:
        length: in pixels, at which the Gaussian is cut.
        angle: in degrees, from the right on downwards.
        step: distance of the samples; each is taken at the nearest pixel.
    """
    steps = torch.arange(0, length + step / 2, step, dtype=torch.float64)
    weights = torch.exp(-steps.square() / (2 * sigma**2))
    weights /= weights.sum()
    radians = math.radians(angle)
    downs = (steps * math.sin(radians) - 0.5).ceil().int().tolist()
    rights = (steps * math.cos(radians) - 0.5).ceil().int().tolist()
    merged: dict[tuple[int, int], float] = {}
    for down, right, weight in zip(downs, rights, weights.tolist(), strict=True):
        merged[down, right] = merged.get((down, right), 0.0) + weight
    pad = math.ceil(length)
    padded = F.pad(image[None], (pad, pad, pad, pad), mode="replicate")[0]
    height, width = image.shape[1:]
    blurred = torch.zeros_like(image)
    for (down, right), weight in merged.items():
        top, left = pad + down, pad + right
        blurred.add_(padded[:, top : top + height, left : left + width], alpha=weight)
    return blurred


def enlarge(image: Tensor, factor: float) -> Tensor:
    """Enlarge an image linearly, corner to corner, to its side times the factor, rounded."""
    size = [round(side * factor) for side in image.shape[1:]]
    return F.interpolate(image[None], size, mode="bilinear", align_corners=True)[0]


def zoom(image: Tensor, factor: float) -> Tensor:
    """Enlarge the middle of an image to the size of the whole."""
    height, width = image.shape[1:]
    rows, columns = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - rows) // 2, (width - columns) // 2
    return enlarge(image[:, top : top + rows, left : left + columns], factor)[:, :height, :width]


def displace(image: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Sample every pixel (H, W) apart from its place, linearly, with mirrored borders."""
    height, width = image.shape[1:]
    rows = (torch.arange(height)[:, None] + down + 0.5) / height
    columns = (torch.arange(width) + right + 0.5) / width
    grid = torch.stack([columns, rows], dim=-1) * 2 - 1
    return F.grid_sample(image[None], grid[None], mode="bilinear", padding_mode="reflection", align_corners=False)[0]


def plasma(side: int, decay: float, random: Generator) -> Tensor:
    """Return a random field (side, side) from 0 to 1 by the diamond-square algorithm; the side is a power of two.

    Every second point is the mean of its four neighbors, opposite borders being neighbors, plus uniform noise, whose
    amplitude falls by the decay's square from one scale to the next.
    """
    field = torch.zeros(side, side)
    amplitude, step = 1.0, side
    while step >= 2:
        half = step // 2
        count = side // step
        noise = amplitude * (2 * torch.rand(3, count, count, generator=random) - 1)
        corners = field[::step, ::step]
        right, down = corners.roll(-1, 1), corners.roll(-1, 0)
        centers = (corners + right + down + right.roll(-1, 0)) / 4 + noise[0]
        field[half::step, half::step] = centers
        field[::step, half::step] = (corners + right + centers + centers.roll(1, 0)) / 4 + noise[1]
        field[half::step, ::step] = (corners + down + centers + centers.roll(1, 1)) / 4 + noise[2]
        amplitude, step = amplitude / decay**2, half
    field -= field.min()
    return field / field.max()


def _mirror(image: Tensor, pad: int) -> Tensor:
    return F.pad(image, (pad, pad, pad, pad), mode="reflect")
