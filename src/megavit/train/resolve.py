"""The choices that a recipe leaves to the run: model, sizes, channels, batch, by the data and the device."""

import math
from dataclasses import replace
from statistics import median

import torch

from megavit.config.preprocessing import Preprocessing
from megavit.config.presets import PRESETS, preset
from megavit.config.recipe import Recipe
from megavit.config.vit import Design, ViTConfig
from megavit.data.samples import LabelledImages, Sample

# Pictures up to so many pixels on the short side are small: not photographs.
SMALL = 40
# Images a step, but at most this share of them, where that is not below LEAST_BATCH.
BATCH, BATCH_SHARE, LEAST_BATCH = 128, 1 / 8, 16


def choose_recipe(images: LabelledImages) -> str:
    """The name of the recipe for these images, where the user named none."""
    training = images.of("train")
    return "small" if short_side(training) <= SMALL or all(sample.grey for sample in training) else "photos"


def short_side(samples: tuple[Sample, ...]) -> int:
    """The median of the images' shorter sides, in pixels."""
    return round(median(min(sample.height, sample.width) for sample in samples))


def resolve(recipe: Recipe, images: LabelledImages, device: torch.device) -> Recipe:
    """`recipe` with the model and its sizes filled in; what the user chose stays.

    Raises:
        ConfigError: when the chosen sizes do not fit together.
    """
    training = images.of("train")
    chosen = recipe.model
    name = choose_preset(training, device) if chosen.preset == "auto" else chosen.preset
    patch = chosen.patch_size or PRESETS[name].patch_size
    size = chosen.image_size or choose_image_size(training, PRESETS[name].image_size, patch)
    channels = chosen.channels or (1 if all(sample.grey for sample in training) else 3)
    model = replace(chosen, preset=name, image_size=size, patch_size=patch, channels=channels)
    batch = min(recipe.run.batch_size or choose_batch(len(training)), len(training))
    return replace(recipe, model=model, run=replace(recipe.run, batch_size=batch))


def choose_preset(training: tuple[Sample, ...], device: torch.device) -> str:
    """By the images and the device alone; what fits into given minutes, `megavit.train.choose` says."""
    side = short_side(training)
    if side <= 16:
        return "pico"
    if side <= SMALL:
        return "nano"
    return "S" if device.type == "cuda" else "micro"


def choose_batch(images: int) -> int:
    """Images a step: a power of two, few where there are few, so that an epoch has some steps."""
    share = max(LEAST_BATCH, images * BATCH_SHARE)
    return min(BATCH, 2 ** int(math.log2(share)))


def choose_image_size(training: tuple[Sample, ...], usual: int, patch: int) -> int:
    """The images' own size, to the next whole patch, unless it is larger than the preset's usual one."""
    side = short_side(training)
    return -(-side // patch) * patch if side < usual else -(-usual // patch) * patch


def model_config(recipe: Recipe, num_classes: int) -> ViTConfig:
    """The model of a resolved recipe, in the MegaVit design."""
    chosen = recipe.model
    config = preset(
        chosen.preset,
        num_classes=num_classes,
        image_size=chosen.image_size,
        patch_size=chosen.patch_size,
        channels=chosen.channels or 3,
        design=Design(mlp=chosen.mlp, patch_overlap=chosen.patch_overlap, drop_path=chosen.drop_path),
    )
    return replace(config, dropout=chosen.dropout)


def preprocessing_of(config: ViTConfig) -> Preprocessing:
    height, width = config.image_hw
    return Preprocessing(height=height, width=width, channels=config.channels)
