"""Resolve the parallel settings of a recipe for the number of processes that were started."""

import math
from dataclasses import replace
from typing import Any

from megavit.config.presets import PRESETS
from megavit.config.recipe import Recipe
from megavit.errors import ConfigError
from megavit.runtime.process_group import DistContext
from megavit.training.setup.norm import resolve_norm


def resolve_parallel(recipe: Recipe, dist: DistContext) -> Recipe:
    """Return `recipe` with the number of processes filled in, or raise ConfigError if it does not fit the recipe."""
    parallel = recipe.parallel
    if parallel.nproc not in (None, 1, dist.world_size):  # a single-process run has recorded 1
        command = "train" if recipe.pretraining is None else "pretrain"
        raise ConfigError(
            f"the recipe is for {parallel.nproc} processes, but {dist.world_size} were started: start it with "
            f"megavit {command} --nproc {parallel.nproc}, or with torchrun --nproc-per-node {parallel.nproc} -m "
            f"megavit {command}"
        )
    if dist.world_size % (parallel.fsdp * parallel.tp):
        raise ConfigError(
            f"fsdp × tp must divide the number of processes, {dist.world_size}, got {parallel.fsdp} × {parallel.tp}"
        )
    is_finetuning = recipe.model.source is not None and recipe.pretraining is None
    if dist.is_distributed and is_finetuning and recipe.finetune.method != "all":
        raise ConfigError(
            "several processes can only fine-tune all layers of pretrained weights (--from): add --finetune all, or "
            "omit --nproc"
        )
    return replace(recipe, parallel=replace(parallel, nproc=dist.world_size))


def override_parallel(recipe: Recipe, overrides: dict[str, Any], dist: DistContext) -> Recipe:
    """Return the recipe of a resumed run for the current processes, or raise ConfigError if `overrides` do not fit."""
    before = recipe.parallel
    settings: dict[str, Any] = {"nproc": None}
    if not dist.is_distributed:
        settings |= {"fsdp": 1, "tp": 1}
    parallel = replace(before, **(settings | overrides))
    resolved = resolve_parallel(replace(recipe, parallel=parallel), dist)
    usual = PRESETS[recipe.model.preset].design.norm if recipe.model.preset in PRESETS else None
    resolve_norm(resolved, {"model": {"norm": recipe.model.norm or usual}})
    accumulation = recipe.run.gradient_accumulation or 1
    accumulation = math.ceil(accumulation * before.dp_world_size / resolved.parallel.dp_world_size)
    return replace(resolved, run=replace(resolved.run, gradient_accumulation=accumulation))
