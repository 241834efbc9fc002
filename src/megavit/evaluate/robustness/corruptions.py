"""Common corruptions of pictures at five strengths, after Hendrycks and Dietterich (arXiv 1903.12261, section 3).

Their idea: what blurs, dims, covers or compresses pictures in use is applied to test images on purpose. Definitions
and strengths here are our own, for pictures from 8 pixels to large and any number of channels: what is measured in
pixels grows with the picture's shorter side, and never falls below what a small picture shows. Figures are therefore
comparable among models measured here, not with those published for ImageNet-C.
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
"""(uint8 (C, H, W), strength 1 to 5, random numbers) -> uint8 (C, H, W), the same for the same three."""


def gaussian_noise(image: Tensor, strength: int, random: Generator) -> Tensor:
    """Normal noise on every value, as of a sensor in low light."""
    deviation = (0.04, 0.08, 0.12, 0.18, 0.26)[strength - 1]
    return _whole(_unit(image) + deviation * torch.randn(image.shape, generator=random))


def shot_noise(image: Tensor, strength: int, random: Generator) -> Tensor:
    """Poisson noise: light comes as so many photons at full brightness."""
    photons = (60, 25, 12, 6, 3)[strength - 1]
    return _whole(torch.poisson(_unit(image) * photons, generator=random) / photons)


def impulse_noise(image: Tensor, strength: int, random: Generator) -> Tensor:
    """A share of the values is lost: 0 or full."""
    share = (0.02, 0.05, 0.09, 0.15, 0.25)[strength - 1]
    drawn = torch.rand(image.shape, generator=random)
    return image.masked_fill(drawn < share / 2, 0).masked_fill(drawn > 1 - share / 2, 255)


def gaussian_blur(image: Tensor, strength: int, _random: Generator) -> Tensor:
    """Out of focus."""
    share, least = ((0.0045, 0.4), (0.009, 0.55), (0.0135, 0.7), (0.018, 0.85), (0.027, 1.0))[strength - 1]
    sigma = max(share * _side(image), least)
    reach = math.ceil(3 * sigma)
    kernel = torch.exp(-torch.arange(-reach, reach + 1).square() / (2 * sigma**2))
    kernel /= kernel.sum()
    blurred = _unit(image)[:, None]
    blurred = F.conv2d(F.pad(blurred, (reach, reach, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    blurred = F.conv2d(F.pad(blurred, (0, 0, reach, reach), mode="replicate"), kernel.view(1, 1, -1, 1))
    return _whole(blurred[:, 0])


def motion_blur(image: Tensor, strength: int, random: Generator) -> Tensor:
    """The camera moves along a line, in any direction, while it looks."""
    share, least = ((0.03, 1.0), (0.055, 1.5), (0.08, 2.0), (0.11, 2.75), (0.15, 3.5))[strength - 1]
    length = max(share * _side(image), least)
    angle = math.pi * torch.rand((), generator=random).item()
    height, width = image.shape[1:]
    steps = torch.linspace(-0.5, 0.5, 17) * length * 2
    views = _still(len(steps))
    views[:, 0, 2], views[:, 1, 2] = steps * math.cos(angle) / width, steps * math.sin(angle) / height
    return _mean_view(image, views)


def zoom_blur(image: Tensor, strength: int, _random: Generator) -> Tensor:
    """The camera comes nearer while it looks."""
    most = (0.06, 0.12, 0.18, 0.25, 0.33)[strength - 1]
    views = _still(9)
    views[:, 0, 0] = views[:, 1, 1] = 1 / (1 + torch.linspace(0, most, 9))
    return _mean_view(image, views)


def brightness(image: Tensor, strength: int, _random: Generator) -> Tensor:
    """Too much light."""
    return _whole(_unit(image) + (0.1, 0.2, 0.3, 0.4, 0.5)[strength - 1])


def contrast(image: Tensor, strength: int, _random: Generator) -> Tensor:
    """Each channel nearer to its mean."""
    values = _unit(image)
    return _whole(values.mean(dim=(1, 2), keepdim=True).lerp(values, (0.6, 0.45, 0.3, 0.2, 0.1)[strength - 1]))


def saturation(image: Tensor, strength: int, _random: Generator) -> Tensor:
    """Colors nearer to gray; for RGB alone."""
    values = _unit(image)
    gray = torch.einsum("chw,c->hw", values, torch.tensor(GRAY))
    return _whole(gray.expand_as(values).lerp(values, (0.7, 0.5, 0.3, 0.15, 0.0)[strength - 1]))


def haze(image: Tensor, strength: int, random: Generator) -> Tensor:
    """A veil of light gray, thicker in some places."""
    thickness = (0.2, 0.35, 0.5, 0.65, 0.8)[strength - 1]
    clouds = F.interpolate(
        torch.rand(1, 1, 4, 4, generator=random), image.shape[1:], mode="bilinear", align_corners=True
    )[0]
    return _whole(_unit(image).lerp(torch.tensor(0.9), thickness * (0.6 + 0.4 * clouds)))


def pixelate(image: Tensor, strength: int, _random: Generator) -> Tensor:
    """Shown again from fewer pixels."""
    share = (0.7, 0.55, 0.4, 0.3, 0.2)[strength - 1]
    size = [max(1, round(side * share)) for side in image.shape[1:]]
    small = F.interpolate(_unit(image)[None], size, mode="area")
    return _whole(F.interpolate(small, image.shape[1:], mode="nearest-exact")[0])


def jpeg(image: Tensor, strength: int, _random: Generator) -> Tensor:
    """Compressed much; channels other than RGB each by itself."""
    quality = (40, 25, 15, 10, 5)[strength - 1]
    if image.shape[0] == 3:
        return _compressed(image.permute(1, 2, 0).contiguous().numpy(), quality).permute(2, 0, 1).contiguous()
    return torch.stack([_compressed(channel.numpy(), quality) for channel in image.contiguous()])


def rotation(image: Tensor, strength: int, random: Generator) -> Tensor:
    """Turned about its middle, to either side."""
    sign = 1 if torch.rand((), generator=random) < 0.5 else -1
    angle = math.radians(sign * (4, 8, 13, 19, 26)[strength - 1])
    aspect = image.shape[1] / image.shape[2]
    views = _still(1)
    views[0, 0, 0] = views[0, 1, 1] = math.cos(angle)
    views[0, 0, 1], views[0, 1, 0] = -math.sin(angle) * aspect, math.sin(angle) / aspect
    return _mean_view(image, views)


def occlusion(image: Tensor, strength: int, random: Generator) -> Tensor:
    """A gray patch covers a part, at any place."""
    share = (0.15, 0.25, 0.35, 0.45, 0.55)[strength - 1]
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
"""Those that change nothing without colors."""


def _side(image: Tensor) -> int:
    """The shorter one, in pixels."""
    return min(image.shape[1:])


def _unit(image: Tensor) -> Tensor:
    return image.float() / 255


def _whole(values: Tensor) -> Tensor:
    """Floats, of which those outside [0, 1] are cut, as uint8."""
    return (values * 255).round().clamp(0, 255).to(torch.uint8)


def _still(count: int) -> Tensor:
    """(count, 2, 3): maps from places in the result to the same places in the picture."""
    return torch.eye(2, 3).repeat(count, 1, 1)


def _mean_view(image: Tensor, views: Tensor) -> Tensor:
    """The mean of the picture seen through each of the maps (V, 2, 3), its edge drawn out."""
    count = len(views)
    grid = F.affine_grid(views, [count, *image.shape], align_corners=False)
    pictures = _unit(image).expand(count, -1, -1, -1)
    return _whole(F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False).mean(0))


def _compressed(pixels: np.ndarray, quality: int) -> Tensor:
    """uint8 (H, W) or (H, W, 3), to JPEG and back."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file)))
