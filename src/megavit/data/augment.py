"""Augment training images by torch's global random generator, which the training loop seeds by step."""

import math
from typing import overload

import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import AugmentRecipe
from megavit.config.vit import pair
from megavit.data.image_dataset import Images, to_device

CROP_MARGIN = 1.25  # random crops have more detail if cut from an image larger than the model's input
GRAY = (0.299, 0.587, 0.114)  # ITU-R BT.601


def canvas_size(preprocessing: Preprocessing, recipe: AugmentRecipe, side: int) -> tuple[int, int]:
    """Return the (height, width) at which training images of about `side` pixels are stored.

    It exceeds the model's input if crops are drawn and the images have the detail; enlarged images would be blurred.
    """
    margin = canvas_margin(recipe)
    height, width = preprocessing.height, preprocessing.width
    return max(height, min(side, round(height * margin))), max(width, min(side, round(width * margin)))


def canvas_margin(recipe: AugmentRecipe) -> float:
    """Return the factor by which stored training images may exceed the model's input."""
    return CROP_MARGIN if recipe.crop < 1 else 1.0


@overload
def augment(
    images: Tensor, preprocessing: Preprocessing, recipe: AugmentRecipe, maps: Tensor | None = None
) -> Tensor: ...
@overload
def augment(
    images: Images, preprocessing: Preprocessing, recipe: AugmentRecipe, maps: Tensor | None = None
) -> Images: ...
def augment(images: Images, preprocessing: Preprocessing, recipe: AugmentRecipe, maps: Tensor | None = None) -> Images:
    """Augment uint8 (B, C, canvas height, canvas width) to floats (B, C, height, width) in [0, 1].

    With `keep_aspect`, each image of a list (C, canvas height, canvas width) gets the size that fits its aspect.
    Otherwise affine `maps` (B, 2, 3), as from `draw_affine_maps`, replace those that would be drawn.
    """
    if isinstance(images, list):
        return [_augment(image[None], _size_of(image, preprocessing), recipe)[0] for image in images]
    return _augment(images, (preprocessing.height, preprocessing.width), recipe, maps)


def _size_of(image: Tensor, preprocessing: Preprocessing) -> tuple[int, int]:
    """Return the image's own size if the model accepts it, else the nearest that it accepts."""
    height, width = image.shape[1:]
    patch_height, patch_width = pair("patch_size", preprocessing.patch_size)
    fits = height * width <= preprocessing.height * preprocessing.width
    is_multiple = not height % patch_height and not width % patch_width
    return (height, width) if fits and is_multiple else preprocessing.size_for(height, width)


def _augment(images: Tensor, size: tuple[int, int], recipe: AugmentRecipe, maps: Tensor | None = None) -> Tensor:
    augmented = images.float().div_(255)  # in place, as one more copy of large images takes much memory
    if maps is None and (recipe.crop < 1 or recipe.flip or recipe.rotate or recipe.shift or images.shape[2:] != size):
        maps = draw_affine_maps(images.shape[0], size, recipe)
    if maps is not None:
        augmented = _resample(augmented, to_device(maps, images.device), size)
    if recipe.color:
        augmented = _recolor(augmented, recipe.color)
    return augmented


@overload
def normalize(images: Tensor, preprocessing: Preprocessing) -> Tensor: ...
@overload
def normalize(images: Images, preprocessing: Preprocessing) -> Images: ...
def normalize(images: Images, preprocessing: Preprocessing) -> Images:
    """Normalize uint8, or floats in [0, 1], by the mean and standard deviation of the preprocessing."""
    if isinstance(images, list):
        return [_normalize(image, preprocessing) for image in images]
    return _normalize(images, preprocessing)


def _normalize(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    # Dividing integers first would round them once more.
    floats, scale = (images, 1) if images.is_floating_point() else (images.float(), 255)
    mean, std = (_by_channel(value, scale, images.device) for value in (preprocessing.mean, preprocessing.std))
    return (floats - mean) / std


def _by_channel(value: float | tuple[float, ...], scale: int, device: torch.device) -> float | Tensor:
    if not isinstance(value, tuple):
        return value * scale
    return to_device(torch.tensor([channel * scale for channel in value]), device).view(-1, 1, 1)


def draw_affine_maps(batch: int, size: tuple[int, int], recipe: AugmentRecipe, max_area: float = 1.0) -> Tensor:
    """Draw affine maps (B, 2, 3) from output to input coordinates, both in [-1, 1], of crops of up to `max_area`."""
    area = torch.empty(batch).uniform_(recipe.crop, max_area)
    # The aspect varies as far as the crop stays within the image.
    stretch = torch.empty(batch).uniform_(-1, 1) * area.log().neg().clamp(max=math.log(4 / 3))
    scale_x, scale_y = (area.sqrt() * (stretch / 2).exp()), (area.sqrt() * (-stretch / 2).exp())
    # Shifts are by whole pixels, since resampling would blur small images, unlike those at prediction.
    sides = torch.tensor([[size[1]], [size[0]]])
    shift_x, shift_y = (torch.empty(2, batch).uniform_(-recipe.shift, recipe.shift) * sides).round() * 2 / sides
    shift_x += torch.empty(batch).uniform_(-1, 1) * (1 - scale_x)
    shift_y += torch.empty(batch).uniform_(-1, 1) * (1 - scale_y)
    mirror = torch.where(torch.rand(batch) < 0.5 * recipe.flip, -1.0, 1.0)
    angle = torch.deg2rad(torch.empty(batch).uniform_(-recipe.rotate, recipe.rotate))
    cos, sin = angle.cos(), angle.sin()
    aspect = size[0] / size[1]
    row_x = torch.stack([mirror * scale_x * cos, -scale_x * sin * aspect, shift_x], dim=1)
    row_y = torch.stack([mirror * scale_y * sin / aspect, scale_y * cos, shift_y], dim=1)
    return torch.stack([row_x, row_y], dim=1)


def _resample(images: Tensor, maps: Tensor, size: tuple[int, int]) -> Tensor:
    grid = F.affine_grid(maps, [images.shape[0], images.shape[1], *size], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _recolor(images: Tensor, strength: float) -> Tensor:
    factors = torch.empty(3, images.shape[0], 1, 1, 1).uniform_(1 - strength, 1 + strength)
    brightness, contrast, saturation = to_device(factors, images.device)
    images = images * brightness
    images = images.mean(dim=(1, 2, 3), keepdim=True).lerp(images, contrast)
    if images.shape[1] == 3:
        weights = to_device(torch.tensor(GRAY), images.device).view(1, 3, 1, 1)
        images = (images * weights).sum(dim=1, keepdim=True).expand_as(images).lerp(images, saturation)
    return images.clamp(0, 1)


def drop_color(images: Tensor, share: float) -> Tensor:
    """Return images (B, 3, height, width), of which a random `share` is gray; other channels are left as they are."""
    if images.shape[1] != 3 or not share:
        return images
    is_gray = to_device(torch.rand(images.shape[0], 1, 1, 1) < share, images.device)
    weights = to_device(torch.tensor(GRAY), images.device).view(1, 3, 1, 1)
    return torch.where(is_gray, (images * weights).sum(dim=1, keepdim=True), images)
