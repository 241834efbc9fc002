"""Pretrain on images without labels, resume after a stop, and write the model of the embeddings as a bundle.

OUT/plan.json      decisions before the first step, needed to resume
OUT/recipe.toml    resolved recipe
OUT/samples.csv    every image that was used
OUT/log.jsonl      one line per validation, and every few seconds
OUT/checkpoints/   training state
OUT/bundle/        pretrained model without a head, for `megavit embed` and `megavit train --from`
"""

import copy
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from megavit.config.names import shell_quote
from megavit.config.recipe import Recipe
from megavit.data.load import DataSource, is_named
from megavit.data.unlabeled import load_unlabeled
from megavit.distributed.context import ParallelContext
from megavit.errors import ConfigError, DataError
from megavit.runtime.process_group import get_dist_context
from megavit.runtime.storage import check_writable
from megavit.training.budget.measure import measure_step
from megavit.training.checkpoint.checkpoint import list_checkpoints, load_checkpoint, remove_incomplete
from megavit.training.clock import Clock, RunLength, TimeBudget, TimeBudgetPlan
from megavit.training.context import RunContext, TrainSetup
from megavit.training.loop.recovery import fit_with_recovery
from megavit.training.pretraining.build import build_pretraining
from megavit.training.pretraining.finish import PretrainingRun, finish
from megavit.training.pretraining.settings import check_batch, draft_recipe, override_processes, resolve_recipe
from megavit.training.progress import NullReporter, Reporter
from megavit.training.run_dir import Plan, advise_resuming, claim_run_dir, lock_run_dir, read_plan, write_plan
from megavit.training.setup.pretrained import fetch_progress
from megavit.training.setup.source import check_same_images, portable_name
from megavit.training.state import TrainState
from megavit.weights.backbones.fetch import load_source
from megavit.weights.pretrained.pretrained import PretrainedModel, fingerprint

# Seconds for the bundle after the last step, for the end of several processes, and for measuring the speed of a step.
FINISH_SECONDS, AGENT_SECONDS, MEASURING_SECONDS = 3.0, 2.0, 5.0


def pretrain(
    source: DataSource, run_dir: Path, *, overrides: dict[str, Any], reporter: Reporter, clock: Clock | None = None
) -> PretrainingRun:
    """Pretrain on the images of `source`, whose labels are ignored, and write everything to the new folder `run_dir`.

    Args:
        source: images as for `megavit.data.unlabeled.load_unlabeled`.
        overrides: settings, nested as in `Recipe`, that replace the defaults.
        clock: clock that a time budget counts from; None to start now.

    Raises:
        BundleError, ConfigError, DataError, OutputError: if the inputs are invalid, before training starts.
        Interrupted: if a signal asked to stop; `resume_pretraining` continues the run.
        TrainingError: if training diverges and cannot recover.
    """
    clock, dist = clock or Clock(), get_dist_context()
    reporter = reporter if dist.is_main_process else NullReporter()
    draft = draft_recipe(overrides, dist)
    weights = _load_weights(draft, reporter)
    with dist.init_process_group(dist.pick_device(draft.run.device), draft.parallel.timeout_seconds):
        if dist.run_on_main(lambda: claim_run_dir(run_dir, source)):
            return _resume(run_dir, weights, reporter, clock, source=None if is_named(source) else source)
        with dist.main_process_only(lock_run_dir(run_dir)):
            ctx = _open_run(run_dir, source, draft, reporter, clock)
            recipe = dist.run_on_main(lambda: resolve_recipe(ctx, overrides, weights))
            setup = build_pretraining(ctx, recipe, weights)
            need = _disk_space(setup.state)
            dist.run_on_main(lambda: check_writable(run_dir, "the run with its checkpoints", need=need))
            setup, length = _plan_length(ctx, setup)
            plan = Plan(
                source=portable_name(ctx.dataset),
                fingerprint=ctx.dataset.fingerprint(),
                recipe=setup.task.recipe,
                pretrained=None if weights is None else fingerprint(weights),
                length=length,
                threads=torch.get_num_threads(),
            )
            dist.run_on_main(lambda: write_plan(run_dir, plan, ctx.dataset))
            return _run_loop(ctx, setup, weights)


def resume_pretraining(
    run_dir: Path,
    *,
    reporter: Reporter,
    clock: Clock | None = None,
    parallel: dict[str, Any] | None = None,
    source: DataSource | None = None,
) -> PretrainingRun:
    """Continue the pretraining in `run_dir` from its newest intact checkpoint; on a CPU the result is bit-identical.

    With another number of processes, views are drawn differently.

    Args:
        clock: clock that the rest of a time budget counts from; None to start now.
        parallel: settings of `megavit.config.recipe.ParallelRecipe` that replace the run's.
        source: new location of the images if they have moved.

    Raises:
        BundleError: if there is no run to resume.
        ConfigError: if the run is no pretraining, or `parallel` does not fit.
        DataError: if the images, or the weights that it started from, have changed.
        Interrupted, OutputError, TrainingError: as in `pretrain`.
    """
    clock, dist, plan = clock or Clock(), get_dist_context(), read_plan(run_dir)
    if plan.recipe.pretraining is None or plan.length is None:
        raise ConfigError(
            f"{run_dir} is a training with labels: resume it with megavit train --resume {shell_quote(str(run_dir))}"
        )
    reporter = reporter if dist.is_main_process else NullReporter()
    recipe = override_processes(plan.recipe, parallel or {}, dist)
    weights = _load_weights(recipe, reporter)
    with dist.init_process_group(dist.pick_device(recipe.run.device), recipe.parallel.timeout_seconds):
        return _resume(run_dir, weights, reporter, clock, parallel=parallel, source=source)


def _resume(
    run_dir: Path,
    weights: PretrainedModel | None,
    reporter: Reporter,
    clock: Clock,
    *,
    parallel: dict[str, Any] | None = None,
    source: DataSource | None = None,
) -> PretrainingRun:
    dist, plan = get_dist_context(), read_plan(run_dir)
    recipe, length = override_processes(plan.recipe, parallel or {}, dist), plan.length
    assert length is not None  # but for fine-tuning with labels
    if weights is not None and fingerprint(weights) != plan.pretrained:
        raise DataError(
            f"the weights of {weights.name} have changed since the run began: restore them, or start a new run"
        )
    before = plan.recipe.parallel
    if recipe.parallel.nproc == (before.nproc or 1):
        torch.set_num_threads(plan.threads)
    elif length.time is not None:  # an estimate for the new number of processes, updated by the budget
        step = length.time.step * before.dp_world_size / recipe.parallel.dp_world_size
        length = replace(length, time=replace(length.time, step=step))
    with dist.main_process_only(lock_run_dir(run_dir)):
        ctx = _open_run(run_dir, plan.source if source is None else source, recipe, reporter, clock)
        if ctx.dataset.fingerprint() != plan.fingerprint:
            raise DataError(
                f"{ctx.dataset.source} has changed since the run began: its images differ from "
                f"{run_dir / 'samples.csv'}: restore them, or start a new run"
            )
        if source is not None and is_named(source):
            moved = replace(plan, source=portable_name(ctx.dataset))
            dist.run_on_main(lambda: write_plan(run_dir, moved, ctx.dataset))
        dist.run_on_main(lambda: check_batch(recipe, ctx.dataset, ctx.device, weights))
        setup = replace(build_pretraining(ctx, recipe, weights), budget=length.make_budget())
        folder, state = run_dir / "checkpoints", setup.state
        dist.run_on_main(lambda: remove_incomplete(folder))
        if dist.run_on_main(lambda: list_checkpoints(folder)):
            for fault in load_checkpoint(folder, state):
                reporter.say(f"skipped a damaged checkpoint: {fault}")
        reporter.say(f"resuming after step {state.step:,}, {state.progress:.0%} of the run")
        return _run_loop(replace(ctx, clock=ctx.clock.after(state.seconds)), setup, weights)


def _load_weights(recipe: Recipe, reporter: Reporter) -> PretrainedModel | None:
    source = recipe.model.source
    return None if source is None else load_source(source, reporter.say, fetch_progress(reporter))


def _open_run(run_dir: Path, source: DataSource, recipe: Recipe, reporter: Reporter, clock: Clock) -> RunContext:
    dataset = load_unlabeled(source, recipe.data, lambda done, total: reporter.progress("checking images", done, total))
    reporter.say(f"{len(dataset.samples):,} images to learn from, {dataset.split_description}")
    for reason, count in dataset.skipped_by_reason().items():
        reporter.say(f"{count:,} {'file' if count == 1 else 'files'} skipped: {reason}")
    dist = get_dist_context()
    check_same_images(dataset, dist)
    device = dist.pick_device(recipe.run.device)
    return RunContext(run_dir, dataset, device, ParallelContext(dist, recipe.parallel, device), reporter, clock)


def _plan_length(ctx: RunContext, setup: TrainSetup) -> tuple[TrainSetup, RunLength]:
    """Return the inputs with the precision and the budget, and the length of the run, after measuring a step."""
    task, recipe, state = setup.task, setup.task.recipe, setup.state
    ctx.reporter.say("measuring the speed of a step")
    batch = next(setup.train_loader.train_batches(task, 0, 1, ctx.parallel))
    if ctx.dist.is_distributed:  # then the state itself is trained
        state = TrainState.create(copy.deepcopy(state.model), recipe.optimizer, ctx.parallel)
    precision, step = measure_step(state, task, batch, MEASURING_SECONDS, objective=setup.objective)
    task = replace(task, recipe=replace(recipe, run=replace(recipe.run, precision=precision)))
    setup = replace(setup, task=task)
    if recipe.run.epochs:
        length = RunLength(steps=task.steps_in(recipe.run.epochs), time=None)
    else:
        assert setup.objective is not None
        began = time.monotonic()
        setup.objective.validate(setup.state.ema_model, setup)
        (validation,) = ctx.parallel.all_reduce_max(time.monotonic() - began)
        plan = TimeBudgetPlan(
            total=recipe.run.minutes * 60,
            step=step,
            validation=validation,
            final_passes=1,
            finish=FINISH_SECONDS + (AGENT_SECONDS if ctx.dist.is_distributed else 0.0),
        )
        length = RunLength(steps=None, time=plan)
    return replace(setup, budget=length.make_budget()), length


def _run_loop(ctx: RunContext, setup: TrainSetup, weights: PretrainedModel | None) -> PretrainingRun:
    state, budget, elapsed = setup.state, setup.budget, ctx.clock.elapsed
    with advise_resuming(ctx.run_dir, "megavit pretrain"):
        is_done = state.progress == 1
        steps = state.step if is_done else budget.next_step(state.step, state.progress, elapsed).steps
        ctx.reporter.plan(setup.task.recipe, steps, sum(p.numel() for p in state.model.parameters()))
        if isinstance(budget, TimeBudget) and not is_done and budget.seconds_left(elapsed) <= 0:
            ctx.reporter.say("no time is left for training, so only a few steps are trained: increase --minutes")
        fit_with_recovery(ctx, setup)
        return ctx.dist.run_on_main(lambda: finish(ctx, setup, weights), wait_long=True)


def _disk_space(state: TrainState) -> int:
    """Return the bytes of five checkpoints (weights, EMA, best, and two moments each) and the bundle."""
    weights = sum(p.numel() * p.element_size() for p in state.model.parameters())
    return 5 * 5 * weights + 2 * weights + 2**24
