"""Draw a relevance map over its image."""

import numpy as np
from PIL import Image
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.data.image_dataset import convert_channels, displayable_channels

MIN_SIDE = 224  # pixels of the longer side, below which images are enlarged by an integer factor

# Perceptually uniform, so that it is readable without color vision and in print.
_COLORMAP = "inferno"
_OPACITY = 0.6

Box = tuple[float, float, float, float]  # left, top, right and bottom, as fractions of the image's sides


def draw_overlay(relevance: Tensor, image: Tensor, box: Box = (0.0, 0.0, 1.0, 1.0)) -> Image.Image:
    """Return a map drawn in colors over the image in gray, from dark (no relevance) to bright (the most).

    Args:
        relevance: (rows, columns), at least 0; its largest value gets the brightest color.
        image: uint8 (C, H, W), with any number of channels.
        box: region of the image that the map covers; the rest is dark.

    Returns:
        An RGB image of the same size, or enlarged by an integer factor if its longer side is below `MIN_SIDE`.
    """
    from matplotlib import colormaps  # slow to import

    height, width = image.shape[1:]
    scale = max(1, -(-MIN_SIDE // max(height, width)))
    size = (width * scale, height * scale)
    gray = convert_channels(displayable_channels(image), 1)[0].contiguous()
    under = Image.fromarray(gray.numpy()).resize(size, Image.Resampling.NEAREST).convert("RGB")
    left, top, right, bottom = (round(share * side) for share, side in zip(box, size * 2, strict=True))
    heat = Image.fromarray((relevance / relevance.max().clamp(min=1e-30)).float().cpu().numpy())
    canvas = Image.new("F", size)
    canvas.paste(heat.resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.BICUBIC), (left, top))
    levels = (np.asarray(canvas).clip(0, 1) * 255).round().astype(np.uint8)
    colors = colormaps[_COLORMAP](np.arange(256), bytes=True)[:, :3]
    return Image.blend(under, Image.fromarray(colors[levels]), _OPACITY)


def visible_box(height: int, width: int, preprocessing: Preprocessing) -> Box:
    """Return the region of an image of this size that the model sees: all of it, or the center crop."""
    if preprocessing.resize is None:
        return 0.0, 0.0, 1.0, 1.0
    resized = preprocessing.size_for(height, width)
    top, left = (start / side for start, side in zip(preprocessing.crop_offset(*resized), resized, strict=True))
    return left, top, left + preprocessing.width / resized[1], top + preprocessing.height / resized[0]
