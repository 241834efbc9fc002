"""How the processes of a run share it: what was asked for, settled by how many there are."""

import math
from dataclasses import replace
from typing import Any

from megavit.config.recipe import Recipe, RunRecipe
from megavit.config.vit import ViTConfig
from megavit.errors import ConfigError
from megavit.runtime.process_group import DistContext


def relaid(recipe: Recipe, changes: dict[str, Any], dist: DistContext) -> Recipe:
    """The recipe of a run that other processes than before go on with.

    Args:
        changes: settings of `ParallelRecipe` that take the place of the run's.

    Raises:
        ConfigError: as `settle_layout`.
    """
    before = recipe.parallel
    settings: dict[str, Any] = {"procs": None}
    if not dist.is_distributed:
        settings |= {"shard": 1, "tensor": 1}
    parallel = replace(before, **(settings | changes))
    settled = settle_layout(replace(recipe, parallel=parallel), dist)
    parts = recipe.run.gradient_accumulation or 1
    parts = math.ceil(parts * before.places / settled.parallel.places)
    return replace(settled, run=replace(settled.run, gradient_accumulation=parts))


def settle_layout(recipe: Recipe, dist: DistContext) -> Recipe:
    """`recipe` with the number of processes filled in.

    Raises:
        ConfigError: where they are not as many as the recipe says, or cannot do what it says.
    """
    parallel = recipe.parallel
    if parallel.procs not in (None, 1, dist.world_size):  # 1 is what a run of one process has recorded
        raise ConfigError(
            f"the recipe is for {parallel.procs} processes, and {dist.world_size} were started: begin with "
            f"megavit train --procs {parallel.procs}, or with torchrun --nproc-per-node {parallel.procs} -m megavit "
            "train"
        )
    if dist.world_size % (parallel.shard * parallel.tensor):
        raise ConfigError(
            f"shard × tensor must divide the number of processes, {dist.world_size}, got {parallel.shard} × "
            f"{parallel.tensor}"
        )
    if dist.is_distributed and recipe.model.init is not None and recipe.tune.rung != "all":
        raise ConfigError(
            "of weights to begin with (--init), several processes train all: add --tune all, or leave out --procs"
        )
    return replace(recipe, parallel=replace(parallel, procs=dist.world_size))


def part_of_batch(recipe: Recipe) -> RunRecipe:
    """The run of one of its processes: of a batch, each has so many images."""
    return replace(recipe.run, batch_size=max(1, (recipe.run.batch_size or 1) // recipe.parallel.places))


def check_layout(config: ViTConfig, recipe: Recipe) -> None:
    """Raise a ConfigError unless batch and layers can be divided as the resolved recipe says."""
    places, batch = recipe.parallel.places, recipe.run.batch_size or 1
    if batch % places:
        raise ConfigError(
            f"a batch of {batch} images cannot be divided among {places} processes: choose a --batch-size that "
            f"divides by {places}"
        )
    if recipe.parallel.tensor > 1:
        from megavit.distributed.tensor_parallel_plan import check_divides

        check_divides(config, recipe.parallel.tensor)
