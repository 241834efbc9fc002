"""Resolution of a recipe: everything that it leaves to the run is decided here, once, before the first step."""

from dataclasses import dataclass, replace
from typing import Any

from megavit.config.recipe import Recipe, ScheduleRecipe
from megavit.config.recipes import named_recipe
from megavit.config.serialization import merge
from megavit.errors import ConfigError
from megavit.runtime.process_group import DistContext
from megavit.train.budget.measure import estimate_finish, measure_recipe
from megavit.train.budget.model_selection import CANDIDATES, Candidate, Deadline, ModelChoice, choose_model
from megavit.train.context import RunContext, TrainRequest
from megavit.train.loop.build import make_model_config, median_short_side
from megavit.train.setup.memory import check_memory
from megavit.train.setup.parallel import check_parallel, resolve_parallel
from megavit.train.setup.sizes import choose_recipe, resolve_pretrained, resolve_sizes
from megavit.train.setup.targets import check_mixing, resolve_balance, resolve_mixing, resolve_target
from megavit.weights.pretrained.pretrained import PretrainedModel

# For pretrained weights: AdamW's rate at a width of 128, and what each layer below the head has of it.
FINETUNE_LEARNING_RATE, FINETUNE_LAYER_DECAY = 2e-3, 0.75


@dataclass(frozen=True)
class ResolvedRecipe:
    """A recipe without anything left open; with a time budget, also the measured seconds of a step."""

    recipe: Recipe
    step_seconds: float | None = None


def draft_recipe(name: str, overrides: dict[str, Any], dist: DistContext) -> Recipe:
    """Return the recipe as far as it is known before the images are read; "small" stands for "auto".

    Raises:
        ConfigError: for settings that cannot be.
    """
    draft = merge(named_recipe("small" if name == "auto" else name), overrides, "the recipe")
    draft = resolve_parallel(draft, dist)
    check_mixing(draft, overrides)
    return draft


def resolve_recipe(ctx: RunContext, request: TrainRequest) -> ResolvedRecipe:
    """Return the recipe with every choice made; nothing changes it afterwards.

    Raises:
        ConfigError: when settings do not fit together or the images, or the device has too little memory.
    """
    dataset, dist = ctx.dataset, ctx.dist
    base = named_recipe(choose_recipe(dataset) if request.recipe == "auto" else request.recipe)
    if request.pretrained is not None:
        base = use_finetuning_defaults(base)
    recipe = resolve_parallel(merge(base, request.overrides, "the recipe"), dist)
    recipe = resolve_target(recipe, request.overrides, dataset)
    recipe = resolve_balance(recipe, dataset, ctx.reporter)
    recipe = resolve_mixing(recipe, ctx.reporter)
    pretrained, step_seconds = request.pretrained, None
    if pretrained is not None:
        recipe = dist.run_on_main(
            lambda: resolve_pretrained(recipe, request.overrides, pretrained, dataset, ctx.device)
        )
    elif recipe.run.epochs:
        recipe = dist.run_on_main(lambda: resolve_sizes(recipe, dataset, ctx.device))
    else:
        total = recipe.run.minutes * 60
        until = dist.run_on_main(lambda: ctx.clock.started + total - estimate_finish(ctx.parallel))
        ctx.reporter.say("measuring the speed of a step")
        choice = select_model(ctx, recipe, until, total)
        ctx.reporter.say(choice.reason)
        recipe, step_seconds = choice.recipe, choice.step_seconds
    check_resources(ctx, recipe, pretrained)
    return ResolvedRecipe(resolve_precision(ctx, recipe, pretrained), step_seconds)


def use_finetuning_defaults(recipe: Recipe) -> Recipe:
    """Return a named recipe with the optimizer and schedule for pretrained weights: gentle, most so in low layers.

    The rate was the best of four for "lora" and of the three tried for "last", on training images of Fashion-MNIST that
    were held out (20 a class, one seed); the rest is not tuned yet. `train.optim.lora` has what differs by method.
    """
    optimizer = replace(
        recipe.optimizer, kind="adamw", learning_rate=FINETUNE_LEARNING_RATE, layer_decay=FINETUNE_LAYER_DECAY
    )
    return replace(recipe, optimizer=optimizer, schedule=ScheduleRecipe(kind="cosine", warmup=0.1))


def check_resources(ctx: RunContext, recipe: Recipe, pretrained: PretrainedModel | None = None) -> None:
    """Raise a ConfigError unless processes and device can train a recipe whose sizes are resolved."""
    config = make_model_config(recipe, ctx.dataset, pretrained)
    check_parallel(config, recipe)
    if not recipe.parallel.divides:  # what a part of a model takes, `megavit plan` knows
        _check_memory(ctx, recipe, pretrained)


def _check_memory(ctx: RunContext, recipe: Recipe, pretrained: PretrainedModel | None = None) -> None:
    own = max(1, (recipe.run.batch_size or 1) // recipe.parallel.places)
    config = make_model_config(recipe, ctx.dataset, pretrained)
    check_memory(config, replace(recipe.run, batch_size=own), ctx.device)


def resolve_precision(ctx: RunContext, recipe: Recipe, pretrained: PretrainedModel | None = None) -> Recipe:
    """Return a recipe in the precision that measures faster, where it leaves that open; a probe has no steps."""
    if recipe.run.precision != "auto":
        return recipe
    precision = "float32"
    if pretrained is None or recipe.tune.rung != "probe":
        ctx.reporter.say("measuring the speed of a step")
        precision, _ = measure_recipe(ctx, recipe, pretrained)
    return replace(recipe, run=replace(recipe.run, precision=precision))


def select_model(ctx: RunContext, recipe: Recipe, until: float, total: float) -> ModelChoice:
    """Return the recipe for a time budget, its model and precision chosen by measuring on noise.

    Args:
        until: the time of the main process's clock until which there is time to train.
        total: seconds of the whole run.

    Raises:
        ConfigError: when not even the smallest model can be trained as the recipe says.
    """
    return choose_model(
        ctx.dist.run_on_main(lambda: list_candidates(ctx, recipe)),
        lambda candidate, max_seconds: measure_recipe(ctx, candidate, max_seconds=max_seconds),
        len(ctx.dataset.of("train")),
        Deadline(until, total, lambda: ctx.dist.run_on_main(ctx.clock.now)),
    )


def list_candidates(ctx: RunContext, recipe: Recipe) -> list[Candidate]:
    """Return the models that the recipe leaves to choose from, the smallest first: one where it names it."""
    if recipe.model.preset != "auto":
        return [_make_candidate(ctx, resolve_sizes(recipe, ctx.dataset, ctx.device))]
    side = median_short_side(ctx.dataset.of("train"))
    candidates: list[Candidate] = []
    first_error: ConfigError | None = None
    for preset, patch_size in next(sizes for largest, sizes in CANDIDATES if side <= largest):
        model = replace(recipe.model, preset=preset, patch_size=recipe.model.patch_size or patch_size)
        sized = resolve_sizes(replace(recipe, model=model), ctx.dataset, ctx.device)
        try:
            _check_memory(ctx, sized)
        except ConfigError as error:
            first_error = first_error or error  # others may fit; if none does, the smallest one's error says most
        else:
            candidates.append(_make_candidate(ctx, sized))
    if not candidates and first_error is not None:
        raise first_error
    return candidates


def _make_candidate(ctx: RunContext, recipe: Recipe) -> Candidate:
    """Return a candidate with the multiplications of a step, roughly: of each token with each weight."""
    config = make_model_config(recipe, ctx.dataset)
    weights = config.depth * config.dim * (4 * config.heads * config.dim_head + 2 * config.mlp_dim)
    tokens = config.num_patches + config.num_prefix_tokens
    return Candidate(recipe, float(weights * tokens * (recipe.run.batch_size or 1)))
