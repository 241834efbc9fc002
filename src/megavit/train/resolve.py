"""The choices that a recipe leaves to the run: model, sizes, channels, batch, by the data and the device."""

from dataclasses import replace
from statistics import median

import torch

from megavit.config.preprocessing import Preprocessing
from megavit.config.presets import PRESETS, preset
from megavit.config.recipe import Recipe
from megavit.config.vit import Design, ViTConfig
from megavit.data.pictures import COLOUR, Pictures, channel_statistics, fits
from megavit.data.samples import LabelledImages, Sample
from megavit.errors import ConfigError

# Pictures up to so many pixels on the short side are small: not photographs.
SMALL = 40
# So many images, spread over the training images, tell their channels' mean and spread.
MEASURED = 512


def choose_recipe(images: LabelledImages) -> str:
    """The name of the recipe for these images, where the user named none."""
    training = images.of("train")
    return "small" if short_side(training) <= SMALL or all(sample.channels == 1 for sample in training) else "photos"


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
    name = choose_preset(training, recipe, device) if chosen.preset == "auto" else chosen.preset
    patch = chosen.patch_size or PRESETS[name].patch_size
    size = chosen.image_size or choose_image_size(training, PRESETS[name].image_size, patch)
    channels = choose_channels(images, chosen.channels)
    model = replace(chosen, preset=name, image_size=size, patch_size=patch, channels=channels)
    batch = min(recipe.run.batch_size, len(training))
    return replace(recipe, model=model, run=replace(recipe.run, batch_size=batch))


def choose_preset(training: tuple[Sample, ...], recipe: Recipe, device: torch.device) -> str:
    side = short_side(training)
    if side <= 16:
        return "pico"
    if side <= SMALL:
        return "nano"
    if device.type == "cuda":
        return "S"
    return "micro" if recipe.run.minutes < 30 else "mini"


def choose_image_size(training: tuple[Sample, ...], usual: int, patch: int) -> int:
    """The images' own size, to the next whole patch, unless it is larger than the preset's usual one."""
    side = short_side(training)
    return -(-side // patch) * patch if side < usual else -(-usual // patch) * patch


def choose_channels(images: LabelledImages, chosen: int | None) -> int:
    """The user's number, or what fits the images.

    Raises:
        ConfigError: when the images cannot be made into the user's number.
    """
    have = {sample.channels for sample in images.samples}
    if chosen is None:
        grey = all(sample.channels == 1 for sample in images.of("train"))
        return 1 if grey else 3 if have <= {*COLOUR, 4} else max(have)
    wrong = sorted(channels for channels in have if not fits(channels, chosen))
    if wrong:
        came = " and ".join(map(str, wrong))
        raise ConfigError(f"model.channels is {chosen}, and there are images of {came} channels; leave it out")
    return chosen


def model_config(recipe: Recipe, num_classes: int) -> ViTConfig:
    """The model of a resolved recipe, in the MegaVit design."""
    chosen = recipe.model
    config = preset(
        chosen.preset,
        num_classes=num_classes,
        image_size=chosen.image_size,
        patch_size=chosen.patch_size,
        channels=chosen.channels or 3,
        design=Design(drop_path=chosen.drop_path),
    )
    return replace(config, dropout=chosen.dropout)


def preprocessing_of(config: ViTConfig, images: LabelledImages) -> Preprocessing:
    """The model's size; for channels other than grey or RGB also their mean and spread over training images."""
    height, width = config.image_hw
    if config.channels in COLOUR:
        return Preprocessing(height=height, width=width, channels=config.channels)
    training = images.of("train")
    chosen = training[:: -(-len(training) // MEASURED)]
    mean, std = channel_statistics(Pictures(images, chosen, height, width, config.channels))
    return Preprocessing(height=height, width=width, channels=config.channels, mean=mean, std=std)
