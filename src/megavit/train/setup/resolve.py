"""The choices that a recipe leaves to the run: model, sizes, channels, batch, by the data and the device."""

import math
import statistics
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from megavit.config.preprocessing import Preprocessing
from megavit.config.presets import PRESETS, preset
from megavit.config.recipe import Recipe, RunRecipe, ScheduleRecipe
from megavit.config.vit import Design, ViTConfig
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.image_dataset import COLOR_CHANNELS, ImageDataset, can_convert_channels, compute_channel_statistics
from megavit.data.targets import num_outputs
from megavit.errors import ConfigError
from megavit.train.progress import Reporter
from megavit.train.setup.memory import parts_that_fit
from megavit.weights.pretrained.pretrained import PretrainedModel

# Pictures up to so many pixels on the short side are small: not photographs.
SMALL = 40
# Images a step, but at most this share of them, where that is not below LEAST_BATCH.
BATCH, BATCH_SHARE, LEAST_BATCH = 128, 1 / 8, 16
# So many images, spread over the training images, tell their channels' mean and spread.
MEASURED = 512

# Of weights that are good already: AdamW's rate at a width of 128, and what each layer below the head has of it.
TUNING_RATE, TUNING_DECAY = 2e-3, 0.75


def choose_recipe(images: LabeledImages) -> str:
    """The name of the recipe for these images, where the user named none."""
    training = images.in_split("train")
    return "small" if short_side(training) <= SMALL or all(sample.channels == 1 for sample in training) else "photos"


def short_side(samples: tuple[Sample, ...]) -> int:
    """The median of the images' shorter sides, in pixels."""
    return round(median(min(sample.height, sample.width) for sample in samples))


def mean_side(samples: tuple[Sample, ...]) -> int:
    """The side of a square of the images' median area, in pixels."""
    return round(math.sqrt(median(sample.height * sample.width for sample in samples)))


def check_mixing(recipe: Recipe, changes: dict[str, Any]) -> None:
    """Raise a ConfigError where `changes` asks to mix images that keep their aspect: only equal sizes can be mixed."""
    asked = [name for name in ("mixup", "cutmix") if changes.get("augment", {}).get(name)]
    if recipe.data.keep_aspect and asked:
        raise ConfigError(
            f"keep_aspect leaves images of different sizes, which {' and '.join(asked)} cannot mix: leave out one of "
            "the two"
        )


def settle_mixing(recipe: Recipe, watch: Reporter) -> Recipe:
    """`recipe` without mixup and CutMix where images keep their aspect."""
    augment = recipe.augment
    if not recipe.data.keep_aspect or not (augment.mixup or augment.cutmix):
        return recipe
    watch.say("images keep their aspect, and cannot be mixed in pairs: mixup and CutMix are left out")
    return replace(recipe, augment=replace(augment, mixup=0.0, cutmix=0.0))


def resolve(recipe: Recipe, images: LabeledImages, device: torch.device) -> Recipe:
    """`recipe` with the model and its sizes filled in; what the user chose stays.

    Raises:
        ConfigError: when the chosen sizes do not fit together.
    """
    training = images.in_split("train")
    chosen = recipe.model
    name = choose_preset(training, device) if chosen.preset == "auto" else chosen.preset
    patch = chosen.patch_size or PRESETS[name].patch_size
    own = mean_side(training) if recipe.data.keep_aspect else short_side(training)
    size = chosen.image_size or choose_image_size(own, PRESETS[name].image_size, patch)
    channels = choose_channels(images, chosen.channels)
    model = replace(chosen, preset=name, image_size=size, patch_size=patch, channels=channels)
    resolved = replace(recipe, model=model)
    config = model_config(resolved, num_outputs(images.target, len(images.classes)))
    return replace(resolved, run=fill_in(recipe.run, config, len(training), device, recipe.parallel.places))


def fill_in(run: RunRecipe, config: ViTConfig, images: int, device: torch.device, places: int = 1) -> RunRecipe:
    """`run` with the batch size for so many training images, and the parts of a step that fit into memory.

    Args:
        places: processes that divide each batch among them.
    """
    batch = run.batch_size or choose_batch(images)
    if run.batch_size is None or batch > images:
        batch = min(batch, images)
        batch -= batch % places if batch >= places else 0
    mine = max(1, batch // places)
    parts = run.gradient_accumulation or parts_that_fit(config, mine, run.gradient_checkpointing, device)
    return replace(run, batch_size=batch, gradient_accumulation=min(parts, mine))


def choose_preset(training: tuple[Sample, ...], device: torch.device) -> str:
    """By the images and the device alone; what fits into given minutes, `megavit.train.budget.model_selection` says."""
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


def choose_image_size(side: int, usual: int, patch: int) -> int:
    """The images' own side, to the next whole patch, unless it is larger than the preset's usual one."""
    return -(-side // patch) * patch if side < usual else -(-usual // patch) * patch


def choose_channels(images: LabeledImages, chosen: int | None) -> int:
    """The user's number, or what fits the images.

    Raises:
        ConfigError: when the images cannot be made into the user's number.
    """
    have = {sample.channels for sample in images.samples}
    if chosen is None:
        gray = all(sample.channels == 1 for sample in images.in_split("train"))
        return 1 if gray else 3 if have <= {*COLOR_CHANNELS, 4} else max(have)
    wrong = sorted(channels for channels in have if not can_convert_channels(channels, chosen))
    if wrong:
        came = " and ".join(map(str, wrong))
        raise ConfigError(f"model.channels is {chosen}, and there are images of {came} channels; leave it out")
    return chosen


def for_tuning(recipe: Recipe) -> Recipe:
    """A named recipe with the optimizer and schedule for weights that are good already: gentle, and from below.

    The rate was the best of four for "lora" and of the three tried for "last", on training images of Fashion-MNIST that
    were held out (20 a class, one seed); the rest is not tuned yet. `train.optim.lora` has what differs by rung.
    """
    optimizer = replace(recipe.optimizer, kind="adamw", learning_rate=TUNING_RATE, layer_decay=TUNING_DECAY)
    return replace(recipe, optimizer=optimizer, schedule=ScheduleRecipe(kind="cosine", warmup=0.1))


def resolve_tuning(
    recipe: Recipe, changes: dict[str, Any], init: PretrainedModel, images: LabeledImages, device: torch.device
) -> Recipe:
    """`recipe` with what the weights that it begins with decide, filled in.

    Args:
        changes: the settings that the user gave, nested as in `Recipe`.

    Raises:
        ConfigError: for a setting that the weights do not leave open, and images that do not fit them.
    """
    old, asked = init.config, changes.get("model", {})
    own = {
        "patch_size": old.patch_hw[0] if old.patch_hw[0] == old.patch_hw[1] else None,
        "mlp": old.design.mlp,
        "patch_overlap": old.design.patch_overlap,
    }
    for name, value in own.items():
        if asked.get(name) is not None and asked[name] != value:
            has = " × ".join(map(str, old.patch_hw)) if name == "patch_size" else value
            raise ConfigError(f"{name} is {has} in the weights of {init.name}, got {asked[name]}; leave it out")
    height, width = old.image_hw
    channels = recipe.model.channels or (init.preprocessing.channels if init.preprocessing else old.channels)
    have = {sample.channels for sample in images.samples}
    if not all(can_convert_channels(one, channels) for one in have):
        raise ConfigError(
            f"the weights of {init.name} are for images of {channels} channels, and these have "
            f"{' and '.join(map(str, sorted(have)))}"
        )
    path = Path(recipe.model.init or init.name)
    model = replace(
        recipe.model,
        **own,
        init=str(path.absolute()) if path.exists() else init.name,
        image_size=recipe.model.image_size or (height if height == width else None),
        channels=channels,
    )
    resolved = replace(recipe, model=model)
    config = tuned_config(resolved, init, 0)  # refuses sizes that do not fit together
    return replace(
        resolved, run=fill_in(recipe.run, config, len(images.in_split("train")), device, recipe.parallel.places)
    )


def tuned_config(recipe: Recipe, init: PretrainedModel, num_classes: int) -> ViTConfig:
    """The model of `init` with the sizes of a recipe that `resolve_tuning` gave."""
    chosen = recipe.model
    return replace(
        init.config,
        num_classes=num_classes,
        image_size=chosen.image_size or init.config.image_size,
        channels=chosen.channels or init.config.channels,
        dropout=chosen.dropout,
        design=replace(init.config.design, drop_path=chosen.drop_path, patch_drop=0.0),
    )


def tuned_preprocessing(config: ViTConfig, init: PretrainedModel, *, keep_aspect: bool = False) -> Preprocessing:
    """Of images for weights that are begun with: as they were trained, at the new size; where unknown, the plain one.

    The whole image is used, also where theirs was cut. For gray images, where theirs had several channels, the means
    over these.
    """
    plain, own = plain_preprocessing(config, keep_aspect=keep_aspect), init.preprocessing
    if own is None:
        return plain
    plain = replace(plain, interpolation=own.interpolation)
    if own.channels == plain.channels:
        return replace(plain, mean=own.mean, std=own.std)
    mean, std = (statistics.mean(value) if isinstance(value, tuple) else value for value in (own.mean, own.std))
    return replace(plain, mean=mean, std=std)


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


def preprocessing_of(config: ViTConfig, images: LabeledImages, *, keep_aspect: bool = False) -> Preprocessing:
    """The model's size; for channels other than gray or RGB also their mean and spread over training images."""
    plain = plain_preprocessing(config, keep_aspect=keep_aspect)
    if config.channels in COLOR_CHANNELS:
        return plain
    training = images.in_split("train")
    chosen = training[:: -(-len(training) // MEASURED)]
    mean, std = compute_channel_statistics(ImageDataset(images, chosen, plain))
    return replace(plain, mean=mean, std=std)


def plain_preprocessing(config: ViTConfig, *, keep_aspect: bool = False) -> Preprocessing:
    """The model's size, with the mean and spread that gray and RGB have whatever the images."""
    height, width = config.image_hw
    return Preprocessing(
        height=height, width=width, channels=config.channels, keep_aspect=keep_aspect, patch_size=config.patch_size
    )
