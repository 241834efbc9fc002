"""Decide the settings of a pretraining: crops, sizes, batch, optimizer."""

from dataclasses import replace
from typing import Any

import torch

from megavit.config.pretraining import PretrainingRecipe
from megavit.config.recipe import AUTO, SCRATCH, OptimizerRecipe, Recipe, ScheduleRecipe
from megavit.config.recipes import get_recipe
from megavit.config.serialization import merge
from megavit.data.dataset import LabeledImages
from megavit.errors import ConfigError
from megavit.runtime.process_group import DistContext
from megavit.training.context import RunContext
from megavit.training.loop.build import make_model_config
from megavit.training.setup.memory import choose_gradient_accumulation
from megavit.training.setup.norm import resolve_norm
from megavit.training.setup.parallel import override_parallel, resolve_parallel
from megavit.training.setup.resolve import FINETUNE_LEARNING_RATE
from megavit.training.setup.sizes import check_resources, choose_recipe, resolve_pretrained, resolve_sizes
from megavit.weights.pretrained.pretrained import PretrainedModel

MIN_COLOR = 0.4
"""Smallest strength of changes in color, without which the colors of an image tell which views are of it."""


def draft_recipe(overrides: dict[str, Any], dist: DistContext) -> Recipe:
    """Return the recipe before the images are read, as for photographs, or raise ConfigError if it is invalid."""
    recipe = resolve_parallel(merge(make_base_recipe("photos"), overrides, "the recipe"), dist)
    _check_layout(recipe)
    if recipe.data.keep_aspect:
        raise ConfigError("pretraining is for images of one size: leave out keep_aspect")
    if recipe.model.pretrained == AUTO:
        raise ConfigError("--from takes scratch, or the name of weights to start from; got auto")
    if recipe.run.patience is not None:
        raise ConfigError("patience is for training with labels: leave it out")
    return recipe


def make_base_recipe(name: str, *, from_weights: bool = False) -> Recipe:
    """Return a named recipe with the settings for pretraining in place of those for labels."""
    base, pretraining = get_recipe(name), PretrainingRecipe()
    augment = replace(
        base.augment,
        crop=pretraining.large_crop,
        color=max(base.augment.color, MIN_COLOR),
        mixup=0.0,
        cutmix=0.0,
        after=0.0,
    )
    optimizer = OptimizerRecipe(kind="adamw", learning_rate=FINETUNE_LEARNING_RATE) if from_weights else base.optimizer
    return replace(
        base,
        model=replace(base.model, pretrained=SCRATCH),
        augment=augment,
        optimizer=optimizer,
        schedule=ScheduleRecipe(kind="cosine", warmup=0.1),
        pretraining=pretraining,
    )


def resolve_recipe(ctx: RunContext, overrides: dict[str, Any], weights: PretrainedModel | None) -> Recipe:
    """Return the recipe with every choice but the precision made, or raise ConfigError if settings do not fit."""
    dataset, device = ctx.dataset, ctx.device
    recipe = merge(make_base_recipe(choose_recipe(dataset), from_weights=weights is not None), overrides, "the recipe")
    recipe = resolve_norm(resolve_parallel(recipe, ctx.dist), overrides)
    if weights is None:
        recipe = resolve_sizes(recipe, dataset, device)
    else:
        recipe = resolve_pretrained(recipe, overrides, weights, dataset, device)
    recipe = replace(recipe, run=replace(recipe.run, gradient_accumulation=1, patience=None))
    check_batch(recipe, dataset, device, weights)
    return recipe


def override_processes(recipe: Recipe, overrides: dict[str, Any], dist: DistContext) -> Recipe:
    """Return the recipe of a resumed run for the current processes, or raise ConfigError if `overrides` do not fit."""
    resolved = override_parallel(recipe, overrides, dist)
    _check_layout(resolved)
    return replace(resolved, run=replace(resolved.run, gradient_accumulation=1))


def check_batch(recipe: Recipe, dataset: LabeledImages, device: torch.device, weights: PretrainedModel | None) -> None:
    """Raise ConfigError unless the processes can train a resolved recipe, each with its part of a batch at once."""
    check_resources(recipe, dataset, device, weights)
    assert recipe.pretraining is not None and recipe.run.batch_size is not None
    views = recipe.run.batch_size // recipe.parallel.dp_world_size * recipe.pretraining.large_views
    config = make_model_config(recipe, dataset, weights)
    if choose_gradient_accumulation(config, views, recipe.run.gradient_checkpointing, device) > 1:
        raise ConfigError(
            f"{views} views of a batch do not fit into memory, and embeddings are compared within a batch: choose a "
            "smaller --batch-size, --model or --image-size, or more processes"
        )


def _check_layout(recipe: Recipe) -> None:
    if recipe.parallel.is_sharded:
        raise ConfigError("in pretraining each process has the whole model: leave out fsdp and tp")
