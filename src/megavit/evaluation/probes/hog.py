"""Describe images by histograms of oriented gradients and of colors, without learning."""

import torch
from torch import Tensor
from torch.nn import functional as F

GRID = 6
BINS = 9
COLOR_LEVELS = 4
# Images described at once, to keep memory low.
CHUNK_IMAGES = 512


def describe_images(images: Tensor) -> Tensor:
    """Return histograms of gradients, and of the colors of RGB images, for uint8 (N, C, H, W), as float32 (N, D)."""
    features = [
        torch.cat([compute_hog(chunk), *([compute_color_histograms(chunk)] if chunk.shape[1] == 3 else [])], dim=1)
        for chunk in images.split(CHUNK_IMAGES)
    ]
    return torch.cat(features)


def compute_hog(images: Tensor, grid: int = GRID) -> Tensor:
    """Return histograms of oriented gradients (Dalal and Triggs, CVPR 2005), float32 (N, (grid - 1)² × 4 × `BINS`).

    Each of `grid` × `grid` cells has a histogram of the unsigned orientations in it, weighted by magnitude and shared
    linearly between the two nearest bins; blocks of 2 × 2 cells are normalized to length 1. The channels are averaged,
    and the square root of the gray values is taken.
    """
    gray = (images.float() / 255).mean(dim=1).sqrt()
    dy, dx = torch.gradient(gray, dim=(1, 2))
    magnitude = torch.hypot(dx, dy)
    orientation = torch.atan2(dy, dx) / torch.pi * BINS  # in bins
    shares = [(1 - ((orientation - b + BINS / 2) % BINS - BINS / 2).abs()).clamp(min=0) for b in range(BINS)]
    cells = F.adaptive_avg_pool2d(torch.stack([magnitude * share for share in shares], dim=1), grid)
    blocks = torch.cat([cells[:, :, y : grid - 1 + y, x : grid - 1 + x] for y in (0, 1) for x in (0, 1)], dim=1)
    return (blocks / (blocks.square().sum(dim=1, keepdim=True) + 1e-4).sqrt()).flatten(1)


def compute_color_histograms(images: Tensor) -> Tensor:
    """Return the square roots of the shares of `COLOR_LEVELS`³ colors in uint8 (N, 3, H, W), float32 (N, 64)."""
    red, green, blue = (images.long() * COLOR_LEVELS // 256).flatten(2).unbind(1)
    colors = (red * COLOR_LEVELS + green) * COLOR_LEVELS + blue
    counts = torch.zeros(len(images), COLOR_LEVELS**3).scatter_add_(1, colors, torch.ones(colors.shape))
    return (counts / colors.shape[1]).sqrt()
