"""Common image corruptions at five severities: ImageNet-C's, and two of our own.

ImageNet-C (Hendrycks and Dietterich, arXiv 1903.12261, section 3) defines them for images of 224 x 224 pixels. With a
shorter side of 224 pixels they are the same here as in the package `imagecorruptions` 1.1.2, exactly or in distribution
(`benchmarks/trust/corruptions.py`). The files of ImageNet-C itself were made with ImageMagick's motion blur, to which
the package's comes near, and with another elastic transform. Frost is left out: it needs photographs of frost.

For other sizes, unlike there, lengths in pixels are scaled by shorter side / 224; noise, pixelation and JPEG are of the
image's own pixels. So that blurs still show on small images, a sigma is at least 0.4 pixels at severity 1 to 1 pixel at
severity 5. Images have at least 8 pixels and any number of channels.
"""

import io
import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Generator, Tensor
from torch.nn import functional as F

from megavit.data.augment import GRAY
from megavit.evaluation.robustness import filters

SEVERITIES = (1, 2, 3, 4, 5)

REFERENCE_SIDE = 224
"""Shorter side, in pixels, for which ImageNet-C gives lengths."""

Corruption = Callable[[Tensor, int, Generator], Tensor]
"""A deterministic function (uint8 (C, H, W), severity 1 to 5, generator) -> uint8 (C, H, W)."""


def gaussian_noise(image: Tensor, severity: int, random: Generator) -> Tensor:
    """Add Gaussian noise to every value."""
    deviation = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    return _to_uint8(_to_float(image) + deviation * torch.randn(image.shape, generator=random))


def shot_noise(image: Tensor, severity: int, random: Generator) -> Tensor:
    """Apply Poisson noise."""
    photons = (60, 25, 12, 5, 3)[severity - 1]
    return _to_uint8(torch.poisson(_to_float(image) * photons, generator=random) / photons)


def impulse_noise(image: Tensor, severity: int, random: Generator) -> Tensor:
    """Set a share of the values to 0 or 255."""
    share = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    drawn = torch.rand(image.shape, generator=random)
    return image.masked_fill(drawn < share / 2, 0).masked_fill(drawn > 1 - share / 2, 255)


def defocus_blur(image: Tensor, severity: int, _random: Generator) -> Tensor:
    """Blur the image with a disk, as a lens out of focus does."""
    radius, softening = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[severity - 1]
    scale = _scale(image)
    softening_half = math.ceil((1 if radius <= 8 else 2) * scale)
    blurred = filters.disk_blur(
        _to_float(image), radius * scale, softening * scale, min_half=8 * scale, softening_half=softening_half
    )
    return _to_uint8(blurred)


def glass_blur(image: Tensor, severity: int, random: Generator) -> Tensor:
    """Blur the image, replace pixels by near ones at random, and blur again, as frosted glass does."""
    sigma, distance, rounds = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[severity - 1]
    sigma = _blur_sigma(image, sigma, severity)
    pixels = _to_uint8(filters.gaussian_blur(_to_float(image), sigma)).flatten(1)
    height, width = image.shape[1:]
    margin = math.ceil(distance * _scale(image))
    # From the last row and column on; a pixel may be replaced by one that was itself replaced.
    rows, columns = torch.arange(height - margin, margin, -1), torch.arange(width - margin, margin, -1)
    places = (rows[:, None] * width + columns).flatten().tolist()
    for _ in range(rounds):
        drawn = torch.randint(-distance, distance, (2, len(rows), len(columns)), generator=random)
        # Fractions of a pixel are rounded up or down at random.
        away = (drawn * _scale(image) + torch.rand(drawn.shape, generator=random)).floor().long()
        near_rows = (rows[:, None] + away[0]).clamp(0, height - 1)
        near_columns = (columns + away[1]).clamp(0, width - 1)
        sources = list(range(height * width))
        for place, near in zip(places, (near_rows * width + near_columns).flatten().tolist(), strict=True):
            sources[place] = sources[near]
        pixels = pixels[:, sources]
    return _to_uint8(filters.gaussian_blur(_to_float(pixels.view(image.shape)), sigma))


def motion_blur(image: Tensor, severity: int, random: Generator) -> Tensor:
    """Blur the image along a line in a random direction within 45 degrees of the horizontal."""
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[severity - 1]
    return _to_uint8(_motion_blur(_to_float(image), (radius, sigma, 0), severity, random))


def zoom_blur(image: Tensor, severity: int, _random: Generator) -> Tensor:
    """Blur the image as if the camera came closer."""
    end, step = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))[severity - 1]
    values = _to_float(image)
    zoomed = [filters.zoom(values, factor) for factor in np.arange(1, end, step).tolist()]
    return _to_uint8((values + sum(zoomed)) / (len(zoomed) + 1))


def gaussian_blur(image: Tensor, severity: int, _random: Generator) -> Tensor:
    """Blur the image with a Gaussian."""
    sigma = _blur_sigma(image, (1, 2, 3, 4, 6)[severity - 1], severity)
    return _to_uint8(filters.gaussian_blur(_to_float(image), sigma))


def snow(image: Tensor, severity: int, random: Generator) -> Tensor:
    """Whiten the image and add streaks of snow, falling within 45 degrees of the vertical."""
    mean, deviation, flake, threshold, radius, sigma, kept = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )[severity - 1]
    height, width = image.shape[1:]
    flake = max(flake * _scale(image), 1)
    drawn = mean + deviation * torch.randn(1, math.ceil(height / flake), math.ceil(width / flake), generator=random)
    flakes = filters.enlarge(drawn, flake)
    flakes = flakes.masked_fill(flakes < threshold, 0).clamp(0, 1)
    flakes = _motion_blur(flakes, (radius, sigma, -90), severity, random)[:, :height, :width]
    values = _to_float(image)
    weights = torch.tensor(GRAY) if len(image) == 3 else torch.full((len(image),), 1 / len(image))
    white = torch.einsum("chw,c->hw", values, weights) * 1.5 + 0.5
    return _to_uint8(torch.maximum(values, white).lerp(values, kept) + flakes + flakes.flip(1, 2))


def fog(image: Tensor, severity: int, random: Generator) -> Tensor:
    """Cover the image with white fog of varying thickness."""
    thickness, decay = ((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))[severity - 1]
    height, width = image.shape[1:]
    field = filters.plasma(1 << (max(height, width) - 1).bit_length(), decay, random)[:height, :width]
    values = _to_float(image)
    lightest = values.max()
    return _to_uint8((values + thickness * field) * lightest / (lightest + thickness))


def brightness(image: Tensor, severity: int, _random: Generator) -> Tensor:
    """Overexpose the image by increasing the value of HSV."""
    values = _to_float(image)
    value = values.amax(dim=0)
    brighter = (value + (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]).clamp(max=1)
    return _to_uint8(torch.where(value > 0, values * brighter / value, brighter))


def contrast(image: Tensor, severity: int, _random: Generator) -> Tensor:
    """Reduce the contrast by moving each channel toward its mean."""
    values = _to_float(image)
    return _to_uint8(values.mean(dim=(1, 2), keepdim=True).lerp(values, (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]))


def saturate(image: Tensor, severity: int, _random: Generator) -> Tensor:
    """Change the saturation of HSV of an RGB image: less of it at severities 1 and 2, more at 3 to 5."""
    factor, offset = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))[severity - 1]
    values = _to_float(image)
    value = values.amax(dim=0)
    chroma = value - values.amin(dim=0)
    saturation = (torch.where(value > 0, chroma / value, 0) * factor + offset).clamp(max=1)
    red = torch.tensor([0.0, 1.0, 1.0]).view(3, 1, 1)  # HSV takes gray for red
    return _to_uint8(value * (1 - saturation * torch.where(chroma > 0, (value - values) / chroma, red)))


def elastic_transform(image: Tensor, severity: int, random: Generator) -> Tensor:
    """Stretch and squeeze small regions of the image at random."""
    strength = (12.5, 16.25, 21.25, 25, 30)[severity - 1] * _scale(image)
    height, width = image.shape[1:]
    drawn = 0.005 * height * (2 * torch.rand(2, height, width, generator=random) - 1)
    sigma = (0.01 * height, 0.01 * width)
    smooth = gaussian_filter(drawn.numpy(), sigma, mode="reflect", truncate=3, axes=(1, 2))
    down, right = torch.from_numpy(smooth) * strength
    return _to_uint8(filters.displace(_to_float(image), down, right))


def pixelate(image: Tensor, severity: int, _random: Generator) -> Tensor:
    """Downsample and upsample the image."""
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]

    def resize(pil_image: Image.Image) -> Image.Image:
        small = (max(1, int(pil_image.width * share)), max(1, int(pil_image.height * share)))
        return pil_image.resize(small, Image.Resampling.BOX).resize(pil_image.size, Image.Resampling.NEAREST)

    return _with_pillow(image, resize)


def jpeg_compression(image: Tensor, severity: int, _random: Generator) -> Tensor:
    """Compress the image as JPEG; channels other than RGB are compressed separately."""
    quality = (25, 18, 15, 10, 7)[severity - 1]

    def compress(pil_image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        pil_image.save(file, format="JPEG", quality=quality)
        return Image.open(file)

    return _with_pillow(image, compress)


def rotation(image: Tensor, severity: int, random: Generator) -> Tensor:
    """Rotate the image about its center, to either side; not one of ImageNet-C's."""
    sign = 1 if torch.rand((), generator=random) < 0.5 else -1
    angle = math.radians(sign * (4, 8, 13, 19, 26)[severity - 1])
    aspect = image.shape[1] / image.shape[2]
    across, down = -math.sin(angle) * aspect, math.sin(angle) / aspect
    transform = torch.tensor([[math.cos(angle), across, 0], [down, math.cos(angle), 0]])
    grid = F.affine_grid(transform[None], [1, *image.shape], align_corners=False)
    values = _to_float(image)[None]
    return _to_uint8(F.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)[0])


def occlusion(image: Tensor, severity: int, random: Generator) -> Tensor:
    """Cover a random part of the image with a gray patch; not one of ImageNet-C's."""
    share = (0.15, 0.25, 0.35, 0.45, 0.55)[severity - 1]
    height, width = (max(1, round(share * side)) for side in image.shape[1:])
    down, right = torch.rand(2, generator=random).tolist()
    top, left = round(down * (image.shape[1] - height)), round(right * (image.shape[2] - width))
    covered = image.clone()
    covered[:, top : top + height, left : left + width] = 128
    return covered


CORRUPTIONS: dict[str, Corruption] = {
    "Gaussian noise": gaussian_noise,
    "shot noise": shot_noise,
    "impulse noise": impulse_noise,
    "defocus blur": defocus_blur,
    "glass blur": glass_blur,
    "motion blur": motion_blur,
    "zoom blur": zoom_blur,
    "Gaussian blur": gaussian_blur,
    "snow": snow,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "saturate": saturate,
    "elastic transform": elastic_transform,
    "pixelate": pixelate,
    "JPEG": jpeg_compression,
    "rotation": rotation,
    "occlusion": occlusion,
}

COLOR_ONLY = ("saturate",)
"""Corruptions that do not change gray images."""


def _scale(image: Tensor) -> float:
    return min(image.shape[1:]) / REFERENCE_SIDE


def _blur_sigma(image: Tensor, sigma: float, severity: int) -> float:
    return max(sigma * _scale(image), 0.25 + 0.15 * severity)


def _to_float(image: Tensor) -> Tensor:
    return image.float() / 255


def _to_uint8(values: Tensor) -> Tensor:
    """Cut values off to whole levels, as ImageNet-C does; what is whole but for rounding stays."""
    return (values * 255 + 1e-3).clamp(0, 255).to(torch.uint8)


def _motion_blur(values: Tensor, blur: tuple[float, float, float], severity: int, random: Generator) -> Tensor:
    """Blur along a line within 45 degrees of an angle, given (radius, sigma, angle) at the reference side."""
    radius, sigma, middle = blur
    angle = middle - 45 + 90 * torch.rand((), generator=random).item()
    scale = _scale(values)
    sigma = _blur_sigma(values, sigma, severity)
    return filters.motion_blur(values, sigma, 2 * radius * scale, angle, step=min(scale, 1))


def _with_pillow(image: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Change an RGB image at once, another one channel by channel."""
    if len(image) == 3:
        changed = change(Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()))
        return torch.from_numpy(np.array(changed)).permute(2, 0, 1).contiguous()
    channels = [change(Image.fromarray(channel.numpy())) for channel in image.contiguous()]
    return torch.stack([torch.from_numpy(np.array(channel)) for channel in channels])
