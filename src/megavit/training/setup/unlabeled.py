"""Read the images without labels that a run may give pseudo-labels."""

import os
from dataclasses import replace
from pathlib import Path

from megavit.config.names import shell_quote
from megavit.config.pretraining import PseudoLabelRecipe
from megavit.config.recipe import DataRecipe, Recipe
from megavit.config.serialization import merge
from megavit.data.load import is_reachable
from megavit.data.unlabeled import UnlabeledImages, load_unlabeled, select_new_images
from megavit.errors import ConfigError, DataError
from megavit.training.context import RunContext, TrainRequest
from megavit.training.setup.sizes import get_base_recipe

MAX_LABELED = 10_000
"""Largest number of labeled images: with more, pseudo-labels bring little and take long."""


def add_unlabeled(ctx: RunContext, request: TrainRequest) -> tuple[RunContext, TrainRequest]:
    """Return a new run with its images without labels, if any, and the request with a portable name of their source.

    Raises:
        ConfigError: if the labeled images do not have one class each, or are many.
        DataError: if the source cannot be read, or none of its images can be used.
    """
    recipe = merge(get_base_recipe(request.recipe, ctx.dataset), request.overrides, "the recipe").pseudo_labels
    if recipe is None:
        return ctx, request
    if ctx.dataset.target != "classification":
        what = "several labels" if ctx.dataset.target == "multilabel" else "a score"
        raise ConfigError(f"--unlabeled is for images with one class, but these have {what}: leave it out")
    count = len(ctx.dataset.samples)
    if count > MAX_LABELED:
        raise ConfigError(
            f"--unlabeled is for at most {MAX_LABELED:,} labeled images, but these are {count:,}: leave it out"
        )
    ctx = replace(ctx, unlabeled=_read(ctx, recipe))
    source = str(Path(recipe.unlabeled).absolute()) if Path(recipe.unlabeled).exists() else recipe.unlabeled
    settings = request.overrides["pseudo_labels"] | {"unlabeled": source}
    return ctx, replace(request, overrides=request.overrides | {"pseudo_labels": settings})


def restore_unlabeled(ctx: RunContext, recipe: Recipe, fingerprint: str | None) -> RunContext:
    """Return a resumed run with its images without labels, if any, or raise DataError if they have changed."""
    if recipe.pseudo_labels is None:
        return ctx
    source, run_dir = recipe.pseudo_labels.unlabeled, shell_quote(os.fspath(ctx.run_dir))
    if not is_reachable(source):
        raise DataError(
            f"the images without labels of the run in {run_dir} are no longer at {source}: move them back, or start a "
            "new run"
        )
    unlabeled = _read(ctx, recipe.pseudo_labels)
    if unlabeled.images.fingerprint() != fingerprint:
        raise DataError(f"the images without labels in {source} have changed since the run began: restore them")
    return replace(ctx, unlabeled=unlabeled)


def _read(ctx: RunContext, recipe: PseudoLabelRecipe) -> UnlabeledImages:
    say = ctx.reporter.say
    images = load_unlabeled(
        recipe.unlabeled,
        DataRecipe(on_corrupt=ctx.dataset.on_corrupt),
        lambda done, total: ctx.reporter.progress("checking images without labels", done, total),
    )
    found = select_new_images(images, ctx.dataset)
    say(f"{len(found.samples):,} images {images.split_description}, from {images.source}")
    for reason, count in found.refused_by_reason().items():
        say(f"{count:,} of them refused: {reason}")
    return found
