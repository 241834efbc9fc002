"""Resolve a recipe: make every choice that it leaves open, once, before the first step."""

from dataclasses import dataclass, replace
from typing import Any

from megavit.config.recipe import AUTO, SCRATCH, Precision, Recipe, ScheduleRecipe
from megavit.config.recipes import get_recipe
from megavit.config.serialization import merge
from megavit.errors import ConfigError
from megavit.runtime.device import has_bfloat16
from megavit.runtime.process_group import DistContext
from megavit.training.budget.measure import estimate_finish, measure_recipe
from megavit.training.budget.model_selection import Deadline, ModelChoice, choose_model
from megavit.training.context import RunContext, TrainRequest
from megavit.training.setup.norm import resolve_norm
from megavit.training.setup.parallel import resolve_parallel
from megavit.training.setup.resolution import check_affordable, choose_size_by_time
from megavit.training.setup.sizes import (
    check_resources,
    get_base_recipe,
    list_candidates,
    resolve_pretrained,
    resolve_sizes,
)
from megavit.training.setup.targets import (
    check_distillation,
    check_labels_used,
    check_mixing,
    check_pseudo_labels,
    resolve_balance,
    resolve_cutmix,
    resolve_mixing,
    resolve_target,
)
from megavit.training.tracking.trackers import check_tracker
from megavit.weights.pretrained.pretrained import PretrainedModel

# For pretrained weights: AdamW's learning rate at a width of 128, and its decay per layer below the head.
FINETUNE_LEARNING_RATE, FINETUNE_LAYER_DECAY = 3e-4, 0.75
# Smallest area of a crop of a photograph, in place of the recipe's.
FINETUNE_CROP = 0.7


@dataclass(frozen=True)
class ResolvedRecipe:
    """A fully resolved recipe; with a time budget, also the measured seconds of a step."""

    recipe: Recipe
    step_seconds: float | None = None


def draft_recipe(name: str, overrides: dict[str, Any], dist: DistContext) -> Recipe:
    """Return the recipe before the images are read, with "small" for "auto", or raise ConfigError if it is invalid."""
    draft = merge(get_recipe("small" if name == "auto" else name), overrides, "the recipe")
    draft = resolve_parallel(draft, dist)
    check_mixing(draft, overrides)
    check_distillation(draft, dist)
    check_pseudo_labels(draft, overrides, dist)
    check_labels_used(draft)
    check_tracker(draft.run.track)
    return draft


def resolve_recipe(ctx: RunContext, request: TrainRequest, reserved_seconds: float = 0.0) -> ResolvedRecipe:
    """Return the recipe with every choice made, or raise ConfigError if settings, images and device do not fit.

    Of a time budget, `reserved_seconds` are for other work before the first step.
    """
    dataset, dist = ctx.dataset, ctx.dist
    base = get_base_recipe(request.recipe, dataset)
    if request.pretrained is not None:
        method = request.overrides.get("finetune", {}).get("method", AUTO)
        as_from_scratch = request.pretrained.is_pretraining and method in (AUTO, "all")
        base = use_pretraining_defaults(base) if as_from_scratch else use_finetuning_defaults(base)
    recipe = resolve_parallel(merge(base, request.overrides, "the recipe"), dist)
    recipe = resolve_norm(recipe, request.overrides)
    recipe = resolve_target(recipe, request.overrides, dataset)
    recipe = resolve_balance(recipe, dataset, ctx.reporter)
    recipe = resolve_mixing(recipe, ctx.reporter)
    recipe = replace(recipe, model=replace(recipe.model, pretrained=SCRATCH))  # unless there are weights
    pretrained, step_seconds = request.pretrained, None
    if pretrained is not None:
        if recipe.run.patience is not None:
            raise ConfigError(
                f"patience is for training from scratch, but this run starts from {pretrained.name}, whose methods are "
                "compared after their last step: leave patience out, or start from scratch"
            )
        recipe = dist.run_on_main(lambda: resolve_finetuning(ctx, recipe, request), wait_long=True)
    elif recipe.run.epochs:
        recipe = dist.run_on_main(lambda: resolve_sizes(recipe, dataset, ctx.device))
        recipe = resolve_cutmix(recipe, request.overrides, recipe.run.epochs or 0)
    else:
        total = recipe.run.minutes * 60
        until = dist.run_on_main(lambda: ctx.clock.started + total - reserved_seconds - estimate_finish(ctx.parallel))
        ctx.reporter.say("measuring the speed of a step")
        choice = select_model(ctx, recipe, until, total)
        ctx.reporter.say(choice.reason)
        recipe, step_seconds = resolve_cutmix(choice.recipe, request.overrides, choice.epochs), choice.step_seconds
    check_resources(recipe, dataset, ctx.device, pretrained)
    return ResolvedRecipe(resolve_precision(ctx, recipe, pretrained), step_seconds)


def resolve_finetuning(ctx: RunContext, recipe: Recipe, request: TrainRequest) -> Recipe:
    """Return `recipe` with the settings of the request's pretrained weights, and the image size that the time allows.

    Raises:
        ConfigError: if weights, images and overrides do not fit.
    """
    pretrained, dataset = request.pretrained, ctx.dataset
    assert pretrained is not None
    resolved = resolve_pretrained(recipe, request.overrides, pretrained, dataset, ctx.device)
    if recipe.model.image_size or recipe.run.epochs:
        return resolved
    if request.overrides.get("model", {}).get("pretrained", AUTO) != AUTO:  # as for those that were found by themselves
        check_affordable(ctx, replace(resolved, model=replace(resolved.model, image_size=None)), pretrained)
    size = choose_size_by_time(ctx, resolved, pretrained)
    if size is None:
        return resolved
    recipe = replace(recipe, model=replace(recipe.model, image_size=size))
    return resolve_pretrained(recipe, request.overrides, pretrained, dataset, ctx.device)


def use_finetuning_defaults(recipe: Recipe) -> Recipe:
    """Return `recipe` with the augmentation, optimizer and schedule for pretrained weights.

    Augmentation is light, since pretrained weights learn in few passes, and lower layers have lower rates.

    From the probe of a ViT-S/14 on 20 images a class at 84 pixels, 60 steps of 16 images at these rates brought
    held-out accuracy from 56.7% to 62.0% (lora), 62.8% (last) and 64.1% (all) on photographs of clothing, and from
    52.8% to 54.4%, 55.6% and 54.4% on drawn stamps, with one seed. Seven to ten times these rates destroy the weights.
    """
    optimizer = replace(
        recipe.optimizer, kind="adamw", learning_rate=FINETUNE_LEARNING_RATE, layer_decay=FINETUNE_LAYER_DECAY
    )
    augment = replace(recipe.augment, crop=max(recipe.augment.crop, FINETUNE_CROP), color=0.0, mixup=0.0, cutmix=0.0)
    schedule = ScheduleRecipe(kind="cosine", warmup=0.1)
    return replace(recipe, augment=augment, optimizer=optimizer, schedule=schedule)


def use_pretraining_defaults(recipe: Recipe) -> Recipe:
    """Return `recipe` for weights that were pretrained on few images: all layers are trained as from scratch.

    With 795 photographs of clothing, in one minute of one core from weights pretrained on 2,731, accuracy on 198 others
    was 72.2% by the optimizer and the augmentation for training from scratch, 62.6% at a third of its rate, 50.5% with
    the defaults for fine-tuning, 51.5% by a probe, and 65.2% from random weights, with one seed.
    """
    return replace(recipe, augment=replace(recipe.augment, mixup=0.0, cutmix=0.0))


def resolve_precision(ctx: RunContext, recipe: Recipe, pretrained: PretrainedModel | None = None) -> Recipe:
    """Return the recipe with "auto" precision replaced by the one measured to be faster; float32 for a probe."""
    if recipe.run.precision != "auto":
        return recipe
    precision: Precision = "float32"
    (lacking,) = ctx.parallel.all_reduce_max(not has_bfloat16(ctx.device))
    if pretrained is None or (recipe.finetune.method != "probe" and not lacking):
        ctx.reporter.say("measuring the speed of a step")
        precision, _ = measure_recipe(ctx, recipe, pretrained)
    return replace(recipe, run=replace(recipe.run, precision=precision))


def select_model(ctx: RunContext, recipe: Recipe, until: float, total: float) -> ModelChoice:
    """Return the model and precision for a run of `total` seconds until the main process's time `until`.

    They are chosen by measuring on noise images; ConfigError is raised if not even the smallest model can be trained.
    """

    def measure(candidate: Recipe, max_seconds: float) -> tuple[Precision, float]:
        check_resources(candidate, ctx.dataset, ctx.device)
        return measure_recipe(ctx, candidate, max_seconds=max_seconds)

    return choose_model(
        ctx.dist.run_on_main(lambda: list_candidates(recipe, ctx.dataset, ctx.device)),
        measure,
        len(ctx.dataset.in_split("train")),
        Deadline(until, total, lambda: ctx.dist.run_on_main(ctx.clock.now)),
    )
