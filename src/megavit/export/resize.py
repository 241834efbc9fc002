"""Resizing as two matrix products, so that every runtime computes the pixels that training and prediction do.

Runtimes have antialiased resizing of their own, or none, and no two give the same pixels. This takes whole numbers and
a product, which all have: it repeats what PyTorch does with uint8, whose weights are whole numbers of 16 bits. On noise
one pixel in 3,000 differs, by one level of 255, seldom two.
"""

from typing import Any

import torch
from torch import Tensor

from megavit.config.preprocessing import Interpolation, Preprocessing
from megavit.config.vit import pair

# The weights are whole numbers times a power of two, as large as leaves each below 2^15, and at most 2^22.
MOST_BITS, WEIGHT_LIMIT = 22, 2**15
CUBIC = -0.5
"""Parameter of the bicubic kernel where PyTorch and Pillow resize with antialias (Keys 1981, equation 4)."""
LUMA = (19595, 38470, 7471)
"""Of red, green and blue in gray, in 65,536ths (ITU-R BT.601), as of `megavit.data.image_dataset.convert_channels`."""


def input_channels(preprocessing: Preprocessing) -> int:
    """Of the pixels that an exported model takes: RGB for gray too, since gray is made after resizing."""
    return 3 if preprocessing.channels == 1 else preprocessing.channels


def prepared(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 (B, `input_channels`, H, W) of any size, resized and cropped as by `preprocess`.

    Returns:
        (B, C, height, width) float32, whole numbers in [0, 255]; not whole where the preprocessing is in float32.
    """
    height, width = preprocessing.height, preprocessing.width
    sides = _sides(pixels, preprocessing)
    x = pixels.float()
    top, left = preprocessing.crop_offset(*sides)
    across = shares(pixels.shape[3], sides[1], (left, width), preprocessing.interpolation)
    down = shares(pixels.shape[2], sides[0], (top, height), preprocessing.interpolation)
    if preprocessing.resize_dtype == "float32":
        return down[1:] @ (x @ across[1:].T)
    weights, factor = as_whole_numbers(across)
    x = _divided(x @ weights.T, factor)
    weights, factor = as_whole_numbers(down)
    x = _divided(weights @ x, factor)
    if preprocessing.channels != 1:
        return x
    # Below 2^24, so that float32 has every whole number.
    red, green, blue = (x[:, i : i + 1] * share for i, share in enumerate(LUMA))
    return ((red + green + blue + 2**15) / 2**16).floor()


def shares(have: int, side: int, kept: tuple[int, int], interpolation: Interpolation) -> Tensor:
    """How `have` pixels become those that are kept of the `side` that they are resized to.

    Args:
        kept: the first of these pixels, and how many there are.

    Returns:
        (1 + kept, have) shares that add up to 1, first those of the very first pixel, kept or not.
    """
    start, count = kept
    # The first of all, too: the largest weight is there, or near one of every few.
    source, target = torch.arange(have), torch.cat([torch.zeros(1, dtype=torch.long), torch.arange(count) + start])
    # Of whole numbers as long as they are large: float32 is off by 1e-4 of a pixel at the end of a wide image.
    apart = (2 * source + 1)[None] * side - ((2 * target + 1) * have)[:, None]
    widest: Any = torch.sym_max(side, have)  # not max(), which would fix the size while tracing
    x = (apart.float() / (2 * widest)).abs()
    if interpolation == "bilinear":
        share = (1 - x).clamp(min=0)
    else:
        near = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1
        far = (((x - 5) * x + 8) * x - 4) * CUBIC
        share = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros(())))
    return share / share.sum(dim=1, keepdim=True)


def as_whole_numbers(share: Tensor) -> tuple[Tensor, Tensor]:
    """Return the kept pixels' `shares` as whole numbers, and the power of two that the sums are divided by, ()."""
    powers = 2.0 ** torch.arange(1, MOST_BITS + 1)
    small = (share.max() * powers + 0.5).floor() < WEIGHT_LIMIT
    factor = torch.where(small, powers, torch.ones(())).max()
    share = share[1:]
    return torch.sign(share) * (share.abs() * factor + 0.5).floor(), factor


def _sides(pixels: Tensor, preprocessing: Preprocessing) -> tuple[int, int]:
    """(height, width) that the image is resized to before it is cut."""
    resize = preprocessing.resize
    if resize is None:
        return preprocessing.height, preprocessing.width
    if not isinstance(resize, int):
        return pair("resize", resize)
    height, width = pixels.shape[2:]
    shorter: Any = torch.sym_min(height, width)
    return resize * height // shorter, resize * width // shorter


def _divided(sums: Tensor, factor: Tensor) -> Tensor:
    return (sums / factor + 0.5).floor().clamp(0, 255)
