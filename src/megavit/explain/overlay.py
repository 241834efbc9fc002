"""A map laid over its picture, as a person can see it."""

import numpy as np
from PIL import Image
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.data.image_dataset import convert_channels, displayable_channels

SMALLEST = 224
"""Pixels of the longer side at least: smaller pictures are enlarged, by a whole number, to be seen at all."""

# Brightness rises evenly with the value, so that it reads without color vision, and in print.
_COLORS = "inferno"
_OPACITY = 0.6

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, as Pillow counts, in shares of a picture's sides."""


def draw_overlay(relevance: Tensor, picture: Tensor, box: Box = (0.0, 0.0, 1.0, 1.0)) -> Image.Image:
    """The picture in gray under the map in colors: dark where there is nothing, bright where there is most.

    Args:
        relevance: (rows, columns), at least 0; its largest value is the brightest color.
        picture: uint8 (C, H, W), of any number of channels.
        box: the part of the picture that the map is of; the rest is dark.

    Returns:
        An RGB image of the picture's size, or of a multiple if its longer side is less than `SMALLEST`.
    """
    from matplotlib import colormaps  # takes a while to import

    height, width = picture.shape[1:]
    times = max(1, -(-SMALLEST // max(height, width)))
    size = (width * times, height * times)
    gray = convert_channels(displayable_channels(picture), 1)[0].contiguous()
    under = Image.fromarray(gray.numpy()).resize(size, Image.Resampling.NEAREST).convert("RGB")
    left, top, right, bottom = (round(share * side) for share, side in zip(box, size * 2, strict=True))
    heat = Image.fromarray((relevance / relevance.max().clamp(min=1e-30)).float().cpu().numpy())
    whole = Image.new("F", size)
    whole.paste(heat.resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.BICUBIC), (left, top))
    levels = (np.asarray(whole).clip(0, 1) * 255).round().astype(np.uint8)
    colors = colormaps[_COLORS](np.arange(256), bytes=True)[:, :3]
    return Image.blend(under, Image.fromarray(colors[levels]), _OPACITY)


def visible_box(height: int, width: int, preprocessing: Preprocessing) -> Box:
    """The part that a model sees of a picture of these sides: all of it, or what is cut out of the middle."""
    if preprocessing.resize is None:
        return 0.0, 0.0, 1.0, 1.0
    resized = preprocessing.size_for(height, width)
    top, left = (start / side for start, side in zip(preprocessing.crop_offset(*resized), resized, strict=True))
    return left, top, left + preprocessing.width / resized[1], top + preprocessing.height / resized[0]
