"""Common image corruptions at five severities, after Hendrycks and Dietterich (arXiv 1903.12261, section 3).

The definitions and severities differ from ImageNet-C: sizes in pixels scale with the image's shorter side, for any
image of at least 8 pixels and any number of channels. Results are therefore not comparable with published ones.
"""

import io
import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional as F

from megavit.data.augment import GRAY

SEVERITIES = (1, 2, 3, 4, 5)

Corruption = Callable[[Tensor, int, Generator], Tensor]
"""A deterministic function (uint8 (C, H, W), severity 1 to 5, generator) -> uint8 (C, H, W)."""


def gaussian_noise(image: Tensor, severity: int, random: Generator) -> Tensor:
    """Add Gaussian noise to every value."""
    deviation = (0.04, 0.08, 0.12, 0.18, 0.26)[severity - 1]
    return _to_uint8(_to_float(image) + deviation * torch.randn(image.shape, generator=random))


def shot_noise(image: Tensor, severity: int, random: Generator) -> Tensor:
    """Apply Poisson noise."""
    photons = (60, 25, 12, 6, 3)[severity - 1]
    return _to_uint8(torch.poisson(_to_float(image) * photons, generator=random) / photons)


def impulse_noise(image: Tensor, severity: int, random: Generator) -> Tensor:
    """Set a share of the values to 0 or 255."""
    share = (0.02, 0.05, 0.09, 0.15, 0.25)[severity - 1]
    drawn = torch.rand(image.shape, generator=random)
    return image.masked_fill(drawn < share / 2, 0).masked_fill(drawn > 1 - share / 2, 255)


def gaussian_blur(image: Tensor, severity: int, _random: Generator) -> Tensor:
    """Blur the image as if out of focus."""
    share, min_sigma = ((0.0045, 0.4), (0.009, 0.55), (0.0135, 0.7), (0.018, 0.85), (0.027, 1.0))[severity - 1]
    sigma = max(share * _shorter_side(image), min_sigma)
    radius = math.ceil(3 * sigma)
    kernel = torch.exp(-torch.arange(-radius, radius + 1).square() / (2 * sigma**2))
    kernel /= kernel.sum()
    blurred = _to_float(image)[:, None]
    blurred = F.conv2d(F.pad(blurred, (radius, radius, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    blurred = F.conv2d(F.pad(blurred, (0, 0, radius, radius), mode="replicate"), kernel.view(1, 1, -1, 1))
    return _to_uint8(blurred[:, 0])


def motion_blur(image: Tensor, severity: int, random: Generator) -> Tensor:
    """Blur the image along a line in a random direction."""
    share, min_length = ((0.03, 1.0), (0.055, 1.5), (0.08, 2.0), (0.11, 2.75), (0.15, 3.5))[severity - 1]
    length = max(share * _shorter_side(image), min_length)
    angle = math.pi * torch.rand((), generator=random).item()
    height, width = image.shape[1:]
    steps = torch.linspace(-0.5, 0.5, 17) * length * 2
    transforms = _identity_transforms(len(steps))
    transforms[:, 0, 2], transforms[:, 1, 2] = steps * math.cos(angle) / width, steps * math.sin(angle) / height
    return _mean_transformed(image, transforms)


def zoom_blur(image: Tensor, severity: int, _random: Generator) -> Tensor:
    """Blur the image as if the camera came closer."""
    max_zoom = (0.06, 0.12, 0.18, 0.25, 0.33)[severity - 1]
    transforms = _identity_transforms(9)
    transforms[:, 0, 0] = transforms[:, 1, 1] = 1 / (1 + torch.linspace(0, max_zoom, 9))
    return _mean_transformed(image, transforms)


def brightness(image: Tensor, severity: int, _random: Generator) -> Tensor:
    """Overexpose the image."""
    return _to_uint8(_to_float(image) + (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1])


def contrast(image: Tensor, severity: int, _random: Generator) -> Tensor:
    """Reduce the contrast by moving each channel toward its mean."""
    values = _to_float(image)
    return _to_uint8(values.mean(dim=(1, 2), keepdim=True).lerp(values, (0.6, 0.45, 0.3, 0.2, 0.1)[severity - 1]))


def saturation(image: Tensor, severity: int, _random: Generator) -> Tensor:
    """Move the colors of an RGB image toward gray."""
    values = _to_float(image)
    gray = torch.einsum("chw,c->hw", values, torch.tensor(GRAY))
    return _to_uint8(gray.expand_as(values).lerp(values, (0.7, 0.5, 0.3, 0.15, 0.0)[severity - 1]))


def haze(image: Tensor, severity: int, random: Generator) -> Tensor:
    """Cover the image with light gray haze of varying thickness."""
    thickness = (0.2, 0.35, 0.5, 0.65, 0.8)[severity - 1]
    clouds = F.interpolate(
        torch.rand(1, 1, 4, 4, generator=random), image.shape[1:], mode="bilinear", align_corners=True
    )[0]
    return _to_uint8(_to_float(image).lerp(torch.tensor(0.9), thickness * (0.6 + 0.4 * clouds)))


def pixelate(image: Tensor, severity: int, _random: Generator) -> Tensor:
    """Downsample and upsample the image."""
    share = (0.7, 0.55, 0.4, 0.3, 0.2)[severity - 1]
    size = [max(1, round(side * share)) for side in image.shape[1:]]
    small = F.interpolate(_to_float(image)[None], size, mode="area")
    return _to_uint8(F.interpolate(small, image.shape[1:], mode="nearest-exact")[0])


def jpeg(image: Tensor, severity: int, _random: Generator) -> Tensor:
    """Compress the image as JPEG; channels other than RGB are compressed separately."""
    quality = (40, 25, 15, 10, 5)[severity - 1]
    if image.shape[0] == 3:
        return _compress_jpeg(image.permute(1, 2, 0).contiguous().numpy(), quality).permute(2, 0, 1).contiguous()
    return torch.stack([_compress_jpeg(channel.numpy(), quality) for channel in image.contiguous()])


def rotation(image: Tensor, severity: int, random: Generator) -> Tensor:
    """Rotate the image about its center, to either side."""
    sign = 1 if torch.rand((), generator=random) < 0.5 else -1
    angle = math.radians(sign * (4, 8, 13, 19, 26)[severity - 1])
    aspect = image.shape[1] / image.shape[2]
    transforms = _identity_transforms(1)
    transforms[0, 0, 0] = transforms[0, 1, 1] = math.cos(angle)
    transforms[0, 0, 1], transforms[0, 1, 0] = -math.sin(angle) * aspect, math.sin(angle) / aspect
    return _mean_transformed(image, transforms)


def occlusion(image: Tensor, severity: int, random: Generator) -> Tensor:
    """Cover a random part of the image with a gray patch."""
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
    "Gaussian blur": gaussian_blur,
    "motion blur": motion_blur,
    "zoom blur": zoom_blur,
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "haze": haze,
    "pixelate": pixelate,
    "JPEG": jpeg,
    "rotation": rotation,
    "occlusion": occlusion,
}

COLOR_ONLY = ("saturation",)
"""Corruptions that do not change gray images."""


def _shorter_side(image: Tensor) -> int:
    return min(image.shape[1:])


def _to_float(image: Tensor) -> Tensor:
    return image.float() / 255


def _to_uint8(values: Tensor) -> Tensor:
    return (values * 255).round().clamp(0, 255).to(torch.uint8)


def _identity_transforms(count: int) -> Tensor:
    return torch.eye(2, 3).repeat(count, 1, 1)


def _mean_transformed(image: Tensor, transforms: Tensor) -> Tensor:
    """Return the mean of the image under the transforms (V, 2, 3), with replicated borders."""
    count = len(transforms)
    grid = F.affine_grid(transforms, [count, *image.shape], align_corners=False)
    images = _to_float(image).expand(count, -1, -1, -1)
    return _to_uint8(F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False).mean(0))


def _compress_jpeg(pixels: np.ndarray, quality: int) -> Tensor:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file)))
