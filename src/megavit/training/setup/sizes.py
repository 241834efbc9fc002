"""Resolve the sizes that a recipe leaves open (model, images, channels, batch), and check the available resources."""

import math
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from megavit.config.backbones import BACKBONES
from megavit.config.presets import PRESETS
from megavit.config.recipe import Recipe, RunRecipe
from megavit.config.recipes import get_recipe
from megavit.config.vit import Stem, ViTConfig
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.image_dataset import COLOR_CHANNELS, can_convert_channels
from megavit.distributed.tensor_parallel_support import check_tensor_parallel
from megavit.errors import ConfigError
from megavit.runtime.device import KINDS
from megavit.training.budget.model_selection import CANDIDATES, PHOTOS, Candidate
from megavit.training.loop.build import make_model_config, median_short_side
from megavit.training.setup.memory import check_memory, choose_gradient_accumulation
from megavit.training.setup.norm import check_batch_norm
from megavit.training.setup.resolution import default_image_size
from megavit.training.setup.symmetry import can_mirror
from megavit.weights.pretrained.pretrained import PretrainedModel

# Largest short side in pixels of small images, which are not resized.
MAX_SMALL_SIDE = 40
# Default batch size, smaller below MANY_IMAGES, and for few images this share of them but not below MIN_BATCH_SIZE.
BATCH_SIZE, SMALLER_BATCH_SIZE, MANY_IMAGES = 128, 64, 20_000
MAX_BATCH_SHARE, MIN_BATCH_SIZE = 1 / 8, 16
# Largest default batch size for pretrained weights, which need many steps rather than exact gradients.
FINETUNE_BATCH_SIZE = 32


def choose_recipe(dataset: LabeledImages) -> str:
    """Return the name of the recipe for these images: "small" or "photos".

    Small gray images and those that must not be mirrored, such as letters, are no photographs.
    """
    training = dataset.in_split("train")
    is_small = median_short_side(training) <= MAX_SMALL_SIDE
    is_gray = all(sample.channels == 1 for sample in training)
    if is_small and is_gray:
        return "small"
    return "photos" if not (is_small or is_gray) or can_mirror(dataset) else "small"


def get_base_recipe(name: str, dataset: LabeledImages) -> Recipe:
    """Return the recipe of a name, for "auto" that for these images."""
    return get_recipe(choose_recipe(dataset) if name == "auto" else name)


def resolve_sizes(recipe: Recipe, dataset: LabeledImages, device: torch.device, largest: int | None = None) -> Recipe:
    """Return `recipe` with the model's sizes filled in, or raise ConfigError if the chosen ones do not fit together.

    Images get at most `largest` pixels a side, by default those of the preset.
    """
    training, model = dataset.in_split("train"), recipe.model
    name = choose_preset(training, device, model.stem) if model.preset == "auto" else model.preset
    patch_size = model.patch_size or PRESETS[name].patch_size
    side = _median_side(training) if recipe.data.keep_aspect else median_short_side(training)
    image_size = model.image_size or choose_image_size(side, largest or PRESETS[name].image_size, patch_size)
    channels = choose_channels(dataset, model.channels)
    model = replace(model, preset=name, image_size=image_size, patch_size=patch_size, channels=channels)
    return resolve_batch(replace(recipe, model=model), dataset, device)


def resolve_pretrained(
    recipe: Recipe, overrides: dict[str, Any], pretrained: PretrainedModel, dataset: LabeledImages, device: torch.device
) -> Recipe:
    """Return `recipe` with the pretrained weights' settings, or raise ConfigError if images or overrides do not fit."""
    config, requested = pretrained.config, overrides.get("model", {})
    fixed = {
        "patch_size": config.patch_hw[0] if config.patch_hw[0] == config.patch_hw[1] else None,
        "mlp": config.design.mlp,
        "stem": config.design.stem,
        "norm": config.design.norm,
    }
    for name, value in fixed.items():
        if requested.get(name) is not None and requested[name] != value:
            actual = " × ".join(map(str, config.patch_hw)) if name == "patch_size" else value
            raise ConfigError(
                f"{name} is {actual} in the weights of {pretrained.name}, got {requested[name]}; leave it out"
            )
    preprocessing = pretrained.preprocessing
    channels = recipe.model.channels or (preprocessing.channels if preprocessing else config.channels)
    present = {sample.channels for sample in dataset.samples}
    if not all(can_convert_channels(number, channels) for number in present):
        raise ConfigError(
            f"the weights of {pretrained.name} are for images with {channels} channels, but these have "
            f"{' and '.join(map(str, sorted(present)))}"
        )
    name = pretrained.name
    is_path = name not in BACKBONES and Path(name).exists()
    model = replace(
        recipe.model,
        **fixed,
        pretrained=str(Path(name).absolute()) if is_path else name,
        image_size=recipe.model.image_size or default_image_size(pretrained),
        channels=channels,
    )
    return resolve_batch(replace(recipe, model=model), dataset, device, pretrained)


def resolve_batch(
    recipe: Recipe, dataset: LabeledImages, device: torch.device, pretrained: PretrainedModel | None = None
) -> Recipe:
    """Return `recipe` with batch size and gradient accumulation, or raise ConfigError for inconsistent model sizes."""
    config = make_model_config(recipe, dataset, pretrained)
    largest = BATCH_SIZE if pretrained is None else FINETUNE_BATCH_SIZE
    count, dp_world_size = len(dataset.in_split("train")), recipe.parallel.dp_world_size
    run = fill_in_batch(recipe.run, config, count, device, dp_world_size, largest=largest)
    return replace(recipe, run=run)


def fill_in_batch(
    run: RunRecipe,
    config: ViTConfig,
    num_images: int,
    device: torch.device,
    dp_world_size: int = 1,
    *,
    largest: int = BATCH_SIZE,
) -> RunRecipe:
    """Return `run` with the batch size for `num_images` training images and gradient accumulation that fits memory.

    The default batch size is at most `largest`.
    """
    batch_size = run.batch_size or min(largest, choose_batch_size(num_images))
    if run.batch_size is None or batch_size > num_images:
        batch_size = min(batch_size, num_images)
        batch_size -= batch_size % dp_world_size if batch_size >= dp_world_size else 0
    local_batch_size = max(1, batch_size // dp_world_size)
    accumulation = run.gradient_accumulation or choose_gradient_accumulation(
        config, local_batch_size, run.gradient_checkpointing, device
    )
    return replace(run, batch_size=batch_size, gradient_accumulation=min(accumulation, local_batch_size))


def choose_preset(training: tuple[Sample, ...], device: torch.device, stem: Stem | None = None) -> str:
    """Return a preset by image size and device, for runs without a time budget."""
    side = median_short_side(training)
    if side <= 16:
        return "pico"
    if side <= MAX_SMALL_SIDE and stem != "conv":
        return "nano"
    return "S" if device.type == "cuda" else "hybrid-nano"


def choose_batch_size(num_images: int) -> int:
    """Return a power of two up to `BATCH_SIZE`, smaller for few images so that an epoch has several steps."""
    share = max(MIN_BATCH_SIZE, num_images * MAX_BATCH_SHARE)
    return min(BATCH_SIZE if num_images >= MANY_IMAGES else SMALLER_BATCH_SIZE, 2 ** int(math.log2(share)))


def choose_image_size(side: int, preset_size: int, patch_size: int) -> int:
    """Return the smaller of the images' side and the preset's image size, rounded up to a multiple of `patch_size`."""
    return -(-min(side, preset_size) // patch_size) * patch_size


def choose_channels(dataset: LabeledImages, requested: int | None) -> int:
    """Return the requested or a fitting number of channels, or raise ConfigError if images cannot be converted."""
    present = {sample.channels for sample in dataset.samples}
    if requested is None:
        is_gray = all(sample.channels == 1 for sample in dataset.in_split("train"))
        return 1 if is_gray else 3 if present <= {*COLOR_CHANNELS, 4} else max(present)
    wrong = sorted(channels for channels in present if not can_convert_channels(channels, requested))
    if wrong:
        listed = " and ".join(map(str, wrong))
        raise ConfigError(f"model.channels is {requested}, but there are images with {listed} channels: leave it out")
    return requested


def _median_side(samples: tuple[Sample, ...]) -> int:
    return round(math.sqrt(median(sample.height * sample.width for sample in samples)))


def list_candidates(recipe: Recipe, dataset: LabeledImages, device: torch.device) -> list[Candidate]:
    """Return the models that the recipe allows, smallest first, or raise ConfigError if none fits into memory."""
    if recipe.model.preset != "auto":
        return [_make_candidate(resolve_sizes(recipe, dataset, device), dataset)]
    side = median_short_side(dataset.in_split("train"))
    candidates: list[Candidate] = []
    first_error: ConfigError | None = None
    smaller = next(rows for largest, rows in CANDIDATES if side <= largest)
    for row in PHOTOS if recipe.model.stem == "conv" and side > CANDIDATES[0][0] else smaller:
        model = replace(recipe.model, preset=row.preset, patch_size=recipe.model.patch_size or row.patch_size)
        resolved = resolve_sizes(replace(recipe, model=model), dataset, device, row.image_size)
        if candidates and resolved.model == candidates[-1].recipe.model:
            continue  # small images are not enlarged
        try:
            _check_memory(make_model_config(resolved, dataset), resolved, device)
        except ConfigError as error:
            first_error = first_error or error  # raised if no candidate fits
        else:
            candidate = _make_candidate(resolved, dataset)
            candidates.append(replace(candidate, min_steps=row.min_steps, min_epochs=row.min_epochs))
    if not candidates and first_error is not None:
        raise first_error
    return candidates


def _make_candidate(recipe: Recipe, dataset: LabeledImages) -> Candidate:
    """Return a candidate with the approximate number of multiplications in a step (tokens × weights)."""
    config = make_model_config(recipe, dataset)
    weights = config.depth * config.dim * (4 * config.heads * config.dim_head + 2 * config.mlp_dim)
    tokens = config.num_patches + config.num_prefix_tokens
    return Candidate(recipe, float(weights * tokens * (recipe.run.batch_size or 1)))


def check_resources(
    recipe: Recipe, dataset: LabeledImages, device: torch.device, pretrained: PretrainedModel | None = None
) -> None:
    """Raise ConfigError unless the processes and the device can train a recipe whose sizes are resolved."""
    config, parallel, batch_size = (
        make_model_config(recipe, dataset, pretrained),
        recipe.parallel,
        recipe.run.batch_size,
    )
    if (batch_size or 1) % parallel.dp_world_size:
        raise ConfigError(
            f"a batch of {batch_size} images cannot be divided among {parallel.dp_world_size} processes: choose a "
            f"--batch-size divisible by {parallel.dp_world_size}"
        )
    check_tensor_parallel(config, parallel.tp)
    check_batch_norm(config, recipe)
    if recipe.run.compile and not KINDS[device.type].compiles:
        raise ConfigError(f"PyTorch cannot compile models for {device.type} yet: leave out --compile")
    if not parallel.is_sharded:  # `megavit plan` estimates sharded models
        _check_memory(config, recipe, device)


def _check_memory(config: ViTConfig, recipe: Recipe, device: torch.device) -> None:
    local_batch_size = max(1, (recipe.run.batch_size or 1) // recipe.parallel.dp_world_size)
    check_memory(config, replace(recipe.run, batch_size=local_batch_size), device)
