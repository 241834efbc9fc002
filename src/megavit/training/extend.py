"""Extend a finished run: check that it can be, and decide the length of the extension.

The learning rate rises again, to half of its peak, and decays once more (arXiv 2403.08763, section 4). The weights and
their average, the optimizers' moments and the best validation so far are kept. There are no cheaper steps early in an
extension, as the model has learned what they teach. `docs/tried.md` has the figures of the other choices.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from megavit.config.checks import check_integer, check_positive
from megavit.config.names import shell_quote
from megavit.config.recipe import MAX_DURATION, Recipe
from megavit.data.sources.records.memory import IN_MEMORY
from megavit.errors import BundleError, ConfigError
from megavit.training.budget.measure import make_time_plan, measure_recipe
from megavit.training.checkpoint.checkpoint import get_step, list_checkpoints
from megavit.training.checkpoint.manifest import read_manifest
from megavit.training.clock import RunLength
from megavit.training.context import RunContext
from megavit.training.data import TrainLoader
from megavit.training.run_dir import Plan
from megavit.training.state import StateNumbers, TrainState
from megavit.training.task import Task


@dataclass(frozen=True, kw_only=True)
class Extension:
    """The length by which a finished run is extended: either epochs, or minutes for the whole command."""

    epochs: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.minutes is None):
            raise ConfigError(
                f"a run is extended by either epochs or minutes, got epochs {self.epochs} and minutes {self.minutes}"
            )
        if self.epochs is not None:
            check_integer("epochs", self.epochs, minimum=1, maximum=MAX_DURATION)
        if self.minutes is not None:
            check_positive("minutes", self.minutes, maximum=MAX_DURATION)


def check_extendable(run_dir: Path, plan: Plan) -> StateNumbers:
    """Return the numbers of the run's last checkpoint.

    Raises:
        BundleError: if the last checkpoint is missing or damaged.
        ConfigError: if the run was fine-tuned, or is not finished.
    """
    folder = shell_quote(str(run_dir))
    source = shell_quote(plan.source) if plan.source != IN_MEMORY else "DATA"
    instead = f"train its bundle further as a new run, with megavit train {source} --from {folder}"
    if plan.length is None:
        raise ConfigError(
            f"{run_dir} was fine-tuned from {plan.recipe.model.pretrained}, by methods whose length is part of their "
            f"comparison, and only a run from scratch can be extended: {instead}"
        )
    checkpoint = next(iter(list_checkpoints(run_dir / "checkpoints")), None)
    if checkpoint is None:
        raise BundleError(f"{run_dir} has no checkpoint, from which it could be extended: {instead}")
    try:
        numbers, _ = read_manifest(checkpoint, get_step(checkpoint))
    except (BundleError, KeyError, OSError) as error:
        raise BundleError(f"the last checkpoint of {run_dir} cannot be read ({error}): {instead}") from None
    if numbers.progress < 1 or numbers.step <= plan.length.first_step:
        raise ConfigError(
            f"{run_dir} is not finished, so it cannot be extended yet: first finish it with "
            f"megavit train --resume {folder}"
        )
    return numbers


def extend_recipe(recipe: Recipe, numbers: StateNumbers, extension: Extension) -> Recipe:
    """Return the recipe of the whole run, with its extension; it is by epochs or minutes as the extension is."""
    run = recipe.run
    if extension.epochs is not None:
        return replace(recipe, run=replace(run, epochs=math.ceil(numbers.history[-1].epoch) + extension.epochs))
    before = numbers.seconds / 60 if run.epochs else run.minutes
    return replace(recipe, run=replace(run, epochs=None, patience=None, minutes=before + (extension.minutes or 0)))


def plan_extension(
    ctx: RunContext,
    training: tuple[TrainState, Task],
    val_loader: TrainLoader,
    extension: Extension,
    *,
    reading_seconds: float,
) -> RunLength:
    """Return the length of the extension of a run in its last state; with minutes, after measuring a step."""
    state, task = training
    if extension.minutes is None:
        steps, time = task.steps_in(extension.epochs or 1), None
    else:
        ctx.reporter.say("measuring the speed of a step")
        steps, (_, step_seconds) = None, measure_recipe(ctx, task.recipe)
        time = make_time_plan(ctx, training, val_loader, reading_seconds=reading_seconds, step_seconds=step_seconds)
        time = replace(time, total=extension.minutes * 60)
    return RunLength(steps=steps, time=time, first_step=state.step, first_second=state.seconds)
