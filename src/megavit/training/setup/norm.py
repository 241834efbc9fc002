"""Resolve the norm of a recipe, and check that batch norms have something to normalize by."""

import math
from dataclasses import replace
from typing import Any

from megavit.config.recipe import Recipe
from megavit.config.vit import ViTConfig
from megavit.errors import ConfigError


def resolve_norm(recipe: Recipe, overrides: dict[str, Any]) -> Recipe:
    """Return `recipe` without BatchNorm where it does not fit, or raise ConfigError if `overrides` requests it.

    Several processes would normalize by different batches, and images of different sizes come in parts of a batch.
    """
    several, norm = (recipe.parallel.nproc or 1) > 1, overrides.get("model", {}).get("norm")
    if not (several or recipe.data.keep_aspect):
        return recipe
    if norm == "batch":
        what = "by several processes" if several else "with keep_aspect"
        advice = 'choose "layer"'
        if recipe.model.source is not None:
            advice = f"start from weights without it, or {'use one process' if several else 'leave out keep_aspect'}"
        raise ConfigError(f'norm "batch" cannot be trained {what}: {advice}')
    return replace(recipe, model=replace(recipe.model, norm=recipe.model.norm or "layer"))


def check_batch_norm(config: ViTConfig, recipe: Recipe) -> None:
    """Raise ConfigError if batch norms of a model cannot be trained as the recipe says.

    The mean and variance of a single value say nothing; PyTorch refuses them, but only within the step.
    """
    if config.design.norm != "batch":
        return
    resolve_norm(recipe, {"model": {"norm": "batch"}})  # also of pretrained weights, which bring their norm
    images, parts = recipe.run.batch_size or 1, recipe.run.gradient_accumulation or 1
    largest = math.ceil(images / parts)
    smallest = images % largest or largest
    if smallest * _fewest_tokens(config, recipe) < 2:
        raise ConfigError(
            f"batch norms need more than one token in each part of a step, but the last part of a batch of {images} "
            f"images, in {parts} parts, has one: choose a larger --batch-size or --image-size, a smaller "
            "--gradient-accumulation, or a --model without batch norms"
        )


def _fewest_tokens(config: ViTConfig, recipe: Recipe) -> int:
    """Return the fewest values of an image that a batch norm sees at once."""
    if config.design.final_norm == "pooled":
        return 1
    rows, columns = config.grid
    schedule = recipe.schedule
    if not schedule.early:
        return rows * columns
    patches = math.ceil(rows * schedule.scale) * math.ceil(columns * schedule.scale)
    kept = max(1, round(patches * (1 - schedule.patch_drop)))
    return min(patches, kept + config.num_prefix_tokens)
