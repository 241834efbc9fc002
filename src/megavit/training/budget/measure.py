"""Measure the speed of this machine before the first step, to plan a time budget."""

import copy
import statistics
import time
from collections.abc import Iterable
from dataclasses import replace

from torch import Tensor

from megavit.config.recipe import Precision, Recipe
from megavit.data.targets import target_tensor
from megavit.distributed.context import ParallelContext
from megavit.engine.engine import Engine
from megavit.model.vit import MegaVit
from megavit.predict.forward import compute_logits
from megavit.runtime.device import has_bfloat16, synchronize
from megavit.training.clock import MAX_VALIDATIONS, TimeBudgetPlan
from megavit.training.context import Objective, RunContext
from megavit.training.data import TrainLoader, short_batch_size, validation_batch_size
from megavit.training.history import EpochRecord
from megavit.training.loop.build import (
    build_pretrained,
    build_training,
    make_model_config,
    make_noise_images,
    make_preprocessing,
)
from megavit.training.loop.step import train_step
from megavit.training.report import figures
from megavit.training.report.baselines import estimate_baselines
from megavit.training.report.examples import estimate_explanations, select_ood_samples
from megavit.training.state import TrainState
from megavit.training.task import Batch, Task
from megavit.weights.pretrained.pretrained import PretrainedModel

REPETITIONS = 5
MAX_MEASURING_SECONDS = 10.0
# bfloat16 must be faster than float32 by this factor to be chosen.
MIN_SPEEDUP = 1.1
# Time for bundle, report and process exit, as a multiple of the time to draw the report's learning curves.
FINISH_FIGURES = 17
AGENT_FIGURES = 8
# Share of the time budget, but at least a second, for measuring a pass over the validation images.
VALIDATION_MEASURING_SHARE = 0.01


def measure_step(
    state: TrainState,
    task: Task,
    batch: Batch,
    max_seconds: float = MAX_MEASURING_SECONDS,
    *,
    objective: Objective | None = None,
) -> tuple[Precision, float]:
    """Return the fastest precision that the recipe of `task` allows, and the median seconds of a step in it.

    At least two steps are measured in each precision; after `max_seconds` no new step begins. A copy of `state` is
    trained, except in distributed runs, which train `state` itself, measure together and use the slowest process.
    """
    parallel, requested = state.parallel, task.recipe.run.precision
    precisions: list[Precision] = [requested]
    if requested == "auto":
        (lacking,) = parallel.all_reduce_max(not has_bfloat16(state.device))
        precisions = ["float32"] if lacking else ["float32", "bfloat16"]
    distributed = parallel.dist.is_distributed
    trial = state if distributed else TrainState.create(copy.deepcopy(state.model), task.recipe.optimizer)
    tasks = {
        precision: replace(task, recipe=replace(task.recipe, run=replace(task.recipe.run, precision=precision)))
        for precision in precisions
    }
    seconds: dict[Precision, list[float]] = {precision: [] for precision in precisions}
    began = time.perf_counter()
    for repetition in range(REPETITIONS + 1):
        if repetition > 1 and parallel.all_reduce_max(time.perf_counter() - began)[0] > max_seconds:
            break
        for precision, variant in tasks.items():
            start = time.perf_counter()
            train_step(trial, variant, batch, rate=0.0, steps=1, objective=objective)
            synchronize(state.device)
            if repetition:  # the first is slower: kernel selection and memory allocation
                seconds[precision].append(time.perf_counter() - start)
    slowest = parallel.all_reduce_max(*(statistics.median(seconds[precision]) for precision in precisions))
    medians = dict(zip(precisions, slowest, strict=True))
    fastest = min(
        precisions, key=lambda precision: medians[precision] * (MIN_SPEEDUP if precision == "bfloat16" else 1)
    )
    return fastest, medians[fastest]


def measure_recipe(
    ctx: RunContext,
    recipe: Recipe,
    pretrained: PretrainedModel | None = None,
    max_seconds: float = MAX_MEASURING_SECONDS,
) -> tuple[Precision, float]:
    """Return the fastest precision and its seconds per step for a resolved recipe, measured on noise images."""
    dataset = ctx.dataset
    if pretrained is not None:
        model = build_pretrained(ctx, recipe, pretrained)
        state, task = TrainState.create(model.model, recipe.optimizer, ctx.parallel), model.task
    else:
        config = make_model_config(recipe, dataset)
        preprocessing = make_preprocessing(config, keep_aspect=recipe.data.keep_aspect)
        state, task = build_training(ctx, recipe, preprocessing)
    local_batch_size = max(1, task.batch_size // recipe.parallel.dp_world_size)
    if pretrained is not None:  # large models are measured on few images
        local_batch_size = min(local_batch_size, short_batch_size(state.model.config, ctx.device))
    targets = target_tensor(dataset.in_split("train")[:local_batch_size], dataset.target, len(dataset.classes))
    images = make_noise_images(dataset, replace(task, batch_size=local_batch_size))
    return measure_step(state, task, (images, targets), max_seconds)


def make_time_plan(
    ctx: RunContext,
    training: tuple[TrainState, Task],
    val_loader: TrainLoader,
    *,
    reading_seconds: float,
    step_seconds: float,
) -> TimeBudgetPlan:
    """Return the expected durations of the run, measured by the main process, to all processes."""
    state, task = training
    total = task.recipe.run.minutes * 60
    max_seconds = max(1.0, VALIDATION_MEASURING_SHARE * total)
    validation = measure_validation(state, task, val_loader, max_seconds)

    def plan() -> TimeBudgetPlan:
        final_pass = measure_final_pass(state, task, val_loader, max_seconds)
        ood_samples = select_ood_samples(ctx.dataset.in_split("train"))
        others = (len(ctx.dataset.in_split("test")) + len(ood_samples)) / len(val_loader)
        image_seconds = step_seconds * ctx.parallel.dp_world_size / task.batch_size
        return TimeBudgetPlan(
            total=total,
            step=step_seconds,
            validation=validation,
            # The last validation, and the evaluation of the finished model.
            final_passes=1 + (1 + others) * final_pass / validation,
            finish=estimate_finish(ctx.parallel)
            + others * reading_seconds
            + estimate_explanations(task, image_seconds)
            + estimate_baselines(ctx.dataset, task.preprocessing, task.recipe),
        )

    return ctx.dist.run_on_main(plan)


def measure_validation(state: TrainState, task: Task, loader: TrainLoader, max_seconds: float) -> float:
    """Return the estimated seconds of a validation on the images of `loader`, measured for up to `max_seconds`."""
    _, indices = loader.split_in_turn(state.parallel, validation_batch_size(state.model.config, state.device))
    batches = (images for images, _ in loader.batches(indices))
    logits = compute_logits(state.ema_model, batches, task.preprocessing, task.dtype)
    return _measure_pass(logits, sum(map(len, indices)), max_seconds, state.parallel)


def measure_final_pass(state: TrainState, task: Task, loader: TrainLoader, max_seconds: float) -> float:
    """Return the estimated seconds of a pass of the finished model over the images of `loader` in a single process."""
    model = state.ema_model
    if state.parallel.dist.is_distributed:  # its own model is sharded
        model = MegaVit.from_config(model.config).to(state.device)
    engine = Engine(model, task.preprocessing)
    batch_size = short_batch_size(model.config, state.device)
    engine.choose_runtime(next(loader.sequential_batches(batch_size)))  # keeps the slower warm-up out of it
    outputs = (output.logits for output in map(engine, loader.sequential_batches(batch_size)))
    return _measure_pass(outputs, len(loader), max_seconds, ParallelContext())


def _measure_pass(outputs: Iterable[Tensor], num_images: int, max_seconds: float, parallel: ParallelContext) -> float:
    """Return the seconds that all of `outputs` would take, extrapolated after `max_seconds`."""
    began, done = time.monotonic(), 0
    for output in outputs:
        done += len(output)
        if parallel.all_reduce_max(time.monotonic() - began)[0] > max_seconds:
            break
    return parallel.all_reduce_max((time.monotonic() - began) * num_images / done)[0]


def estimate_finish(parallel: ParallelContext) -> float:
    """Return the seconds from the last metric to the end of the command, estimated by drawing learning curves once."""
    record = EpochRecord(epoch=1, step=1, seconds=1, train_loss=1, val_loss=1, val_metric=0.5, learning_rate=1e-3)
    began = time.monotonic()
    figures.png(figures.draw_curves([record] * MAX_VALIDATIONS, figures.LIGHT))
    seconds = time.monotonic() - began
    return (FINISH_FIGURES + (AGENT_FIGURES if parallel.dist.is_distributed else 0)) * seconds
