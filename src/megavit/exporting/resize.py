"""Resize by two matrix products, so that every runtime computes the same pixels as training and prediction.

Runtimes differ in antialiased resizing, or lack it. This reproduces PyTorch's uint8 resizing with 16-bit integer
weights by operations that all runtimes have. On noise, one pixel in 3,000 differs, by one level of 255, rarely by two.
"""

from typing import Any

import torch
from torch import Tensor

from megavit.config.preprocessing import Interpolation, Preprocessing
from megavit.config.vit import pair

MAX_SHIFT, MAX_WEIGHT = 22, 2**15
"""Weights are scaled to integers by the largest power of two, at most 2^22, that keeps each below 2^15."""
CUBIC = -0.5  # bicubic kernel of antialiased resizing in PyTorch and Pillow (Keys 1981, equation 4)
LUMA = (19595, 38470, 7471)  # weights of red, green and blue in gray, multiplied by 65,536 (ITU-R BT.601)


def input_channels(preprocessing: Preprocessing) -> int:
    """Return the number of channels of an exported model's input: 3 for gray too, which is converted after resizing."""
    return 3 if preprocessing.channels == 1 else preprocessing.channels


def resize_and_crop(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Resize and crop uint8 (B, `input_channels`, H, W) of any size like `megavit.data.image_dataset.preprocess`.

    Returns:
        (B, C, height, width) float32 in [0, 255], rounded unless the preprocessing resizes in float32.
    """
    height, width = preprocessing.height, preprocessing.width
    sides = _resized_sides(pixels, preprocessing)
    x = pixels.float()
    crop_offset: Any = preprocessing.crop_offset  # the same formula for tensors
    top, left = crop_offset(*sides)
    across = interpolation_weights(pixels.shape[3], sides[1], (left, width), preprocessing.interpolation)
    down = interpolation_weights(pixels.shape[2], sides[0], (top, height), preprocessing.interpolation)
    if preprocessing.resize_dtype == "float32":
        return down[1:] @ (x @ across[1:].T)
    weights, factor = quantize_weights(across)
    x = _divide(x @ weights.T, factor)
    weights, factor = quantize_weights(down)
    x = _divide(weights @ x, factor)
    if preprocessing.channels != 1:
        return x
    # All values are below 2^24, where float32 represents integers exactly.
    red, green, blue = (x[:, i : i + 1] * share for i, share in enumerate(LUMA))
    return ((red + green + blue + 2**15) / 2**16).floor()


def interpolation_weights(
    in_size: int, out_size: Tensor, window: tuple[Tensor, int], interpolation: Interpolation
) -> Tensor:
    """Return the weights that resize `in_size` pixels to `out_size`, for the crop's `window` (first, count) of pixels.

    Sizes that can depend on the image's are integer tensors (), as ExecuTorch lacks arithmetic such as `torch.sym_min`.

    Returns:
        (1 + count, in_size), rows summing to 1; the first row is for pixel 0, in the window or not.
    """
    start, count = window
    # Pixel 0 is included because it has the largest weight, or nearly so.
    source, target = torch.arange(in_size), torch.cat([torch.zeros(1, dtype=torch.long), torch.arange(count) + start])
    # In integers, as float32 is off by 1e-4 of a pixel at the end of a wide image.
    distance = (2 * source + 1)[None] * out_size - ((2 * target + 1) * in_size)[:, None]
    scale = torch.maximum(torch.full((), in_size), out_size)
    x = (distance.float() / (2 * scale)).abs()
    if interpolation == "bilinear":
        weights = (1 - x).clamp(min=0)
    else:
        near = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1
        far = (((x - 5) * x + 8) * x - 4) * CUBIC
        weights = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros(())))
    return weights / weights.sum(dim=1, keepdim=True)


def quantize_weights(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights without the first row as integers, and the power of two to divide the sums by, ()."""
    powers = 2.0 ** torch.arange(1, MAX_SHIFT + 1)
    fits = (weights.max() * powers + 0.5).floor() < MAX_WEIGHT
    factor = torch.where(fits, powers, torch.ones(())).max()
    weights = weights[1:]
    return torch.sign(weights) * (weights.abs() * factor + 0.5).floor(), factor


def _resized_sides(pixels: Tensor, preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
    resize = preprocessing.resize
    if not isinstance(resize, int):
        height, width = (preprocessing.height, preprocessing.width) if resize is None else pair("resize", resize)
        return torch.full((), height), torch.full((), width)
    height, width = (torch.full((), side) for side in pixels.shape[2:])
    shorter = torch.minimum(height, width)
    return resize * height // shorter, resize * width // shorter


def _divide(sums: Tensor, factor: Tensor) -> Tensor:
    return (sums / factor + 0.5).floor().clamp(0, 255)
