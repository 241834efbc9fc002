"""Run training from data to bundle, resume it after a stop, and extend it after its end.

OUT/plan.json       decisions before the first step, needed to resume
OUT/recipe.toml     resolved recipe, also for `--recipe`
OUT/samples.csv     every image with its class and split
OUT/skipped.csv     every file that was skipped, and why
OUT/log.jsonl       one line per epoch, and every few seconds
OUT/checkpoints/    training state
OUT/stages/         log and checkpoints of each stage, when pretrained weights are fine-tuned
OUT/bundle/         trained model
OUT/report.html     results, with their figures in figures/
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from megavit.config.backbones import BACKBONES
from megavit.config.names import shell_quote
from megavit.config.recipe import Recipe
from megavit.data.load import DataSource, is_named
from megavit.distributed.context import ParallelContext
from megavit.errors import BundleError, ConfigError, DataError
from megavit.runtime.process_group import get_dist_context
from megavit.runtime.storage import check_writable
from megavit.training.budget.measure import make_time_plan
from megavit.training.checkpoint.checkpoint import list_checkpoints, load_checkpoint, remove_incomplete
from megavit.training.clock import Clock, RunLength, TimeBudget
from megavit.training.context import RunContext, TrainRequest, TrainSetup
from megavit.training.distillation.targets import compute_targets, open_outputs
from megavit.training.distillation.teacher import Teacher, choose_views, load_teacher
from megavit.training.extend import Extension, check_extendable, extend_recipe, plan_extension
from megavit.training.finetune.finetune import resume_finetuning, start_finetuning
from megavit.training.loop.build import build_training, make_eval_loader, make_train_loader
from megavit.training.loop.recovery import fit_with_recovery
from megavit.training.optim.optimizer import EXTENSION_PEAK
from megavit.training.progress import NullReporter, Reporter
from megavit.training.report.baselines import shrink_training_images
from megavit.training.report.evaluation import EvalInputs
from megavit.training.report.finalize import finalize
from megavit.training.report.result import Run
from megavit.training.run_dir import (
    Plan,
    advise_resuming,
    claim_run_dir,
    is_restart,
    lock_run_dir,
    read_plan,
    write_plan,
    write_restart_marker,
)
from megavit.training.setup.parallel import override_parallel
from megavit.training.setup.pretrained import choose_weights, fetch_progress
from megavit.training.setup.resolve import draft_recipe, resolve_recipe
from megavit.training.setup.sizes import check_resources
from megavit.training.setup.source import (
    check_same_images,
    check_source,
    portable_name,
    read_dataset,
    report_warnings,
    with_columns,
)
from megavit.training.state import TrainState
from megavit.training.tracking.tracking import tracking
from megavit.weights.backbones.fetch import load_source


def train(
    source: DataSource,
    run_dir: Path,
    *,
    recipe: str,
    overrides: dict[str, Any],
    reporter: Reporter,
    clock: Clock | None = None,
    report: bool = True,
) -> Run:
    """Train on `source` and write everything to the new folder `run_dir`.

    Args:
        source: labeled images as for `megavit.data.load.load_data`.
        run_dir: output folder; new or empty, and outside the data.
        recipe: name in `megavit.config.recipes.RECIPES`, or "auto" to choose by the images.
        overrides: settings, nested as in `Recipe`, that replace the recipe's.
        clock: clock that a time budget counts from; None to start now.
        report: whether to write the report.

    Raises:
        BundleError, ConfigError, DataError, OutputError: if the inputs are invalid, before training starts.
        Interrupted: if a signal asked to stop; `resume` continues the run.
        TrainingError: if training diverges and cannot recover.
    """
    clock, dist = clock or Clock(), get_dist_context()
    reporter = reporter if dist.is_main_process else NullReporter()
    overrides = with_columns(overrides, source)
    # Settings and weights are checked before the images are read.
    draft = draft_recipe(recipe, overrides, dist)
    weights = draft.model.source
    pretrained = None if weights is None else load_source(weights, reporter.say, fetch_progress(reporter))
    with dist.init_process_group(dist.pick_device(draft.run.device), draft.parallel.timeout_seconds):
        if dist.run_on_main(lambda: claim_run_dir(run_dir, source)):
            return _resume(run_dir, reporter, clock, source=None if is_named(source) else source, report=report)
        with dist.main_process_only(lock_run_dir(run_dir)):
            ctx = replace(_open_run(run_dir, source, draft, reporter, clock), write_report=report)
            request = TrainRequest(portable_name(ctx.dataset), recipe, overrides, pretrained)
            request = replace(request, pretrained=choose_weights(ctx, request))
            if request.pretrained is not None:
                return start_finetuning(ctx, request)
            return _start(ctx, request, draft)


def resume(
    run_dir: Path,
    *,
    reporter: Reporter,
    clock: Clock | None = None,
    parallel: dict[str, Any] | None = None,
    source: DataSource | None = None,
    extension: Extension | None = None,
    report: bool = True,
) -> Run:
    """Continue the run in `run_dir` from its newest intact checkpoint; on a CPU the result is bit-identical.

    A time budget continues with the time that was left. With another number of processes the result is the same up to
    rounding.

    Args:
        clock: clock that the rest of a time budget counts from; None to start now.
        parallel: settings of `megavit.config.recipe.ParallelRecipe` that replace the run's.
        source: new location of the images if they have moved; it is recorded.
        extension: length by which the finished run is extended; its bundle stays in use until the new one replaces it.
        report: whether to write the report.

    Raises:
        BundleError: if there is no run to resume.
        ConfigError: if `extension` is given, but the run is not finished or was fine-tuned.
        DataError: if the images have changed.
        Interrupted, OutputError, TrainingError: as in `train`.
    """
    clock, dist = clock or Clock(), get_dist_context()
    reporter = reporter if dist.is_main_process else NullReporter()
    recipe = override_parallel(read_plan(run_dir).recipe, parallel or {}, dist)
    with dist.init_process_group(dist.pick_device(recipe.run.device), recipe.parallel.timeout_seconds):
        if extension is not None and dist.run_on_main(lambda: is_restart(run_dir)):
            extension = None  # this same job has begun it
        return _resume(run_dir, reporter, clock, parallel=parallel, source=source, extension=extension, report=report)


def _open_run(run_dir: Path, source: DataSource, recipe: Recipe, reporter: Reporter, clock: Clock) -> RunContext:
    dist = get_dist_context()
    dataset = read_dataset(source, recipe.data, reporter)
    report_warnings(dataset, dist, reporter)
    check_same_images(dataset, dist)
    device = dist.pick_device(recipe.run.device)
    return RunContext(run_dir, dataset, device, ParallelContext(dist, recipe.parallel, device), reporter, clock)


def _start(ctx: RunContext, request: TrainRequest, draft: Recipe) -> Run:
    teacher, teacher_seconds = load_teacher(ctx, draft), 0.0
    if teacher is not None:
        views, teacher_seconds = choose_views(ctx, draft, teacher)
        settings = request.overrides["distillation"] | {"views": views, "teacher": _portable_source(teacher)}
        request = replace(request, overrides=request.overrides | {"distillation": settings})
    resolved = resolve_recipe(ctx, request, teacher_seconds)
    state, task = build_training(ctx, resolved.recipe, teacher_dim=teacher.dim if teacher else 0)
    ctx.dist.run_on_main(lambda: check_writable(ctx.run_dir, "the run with its checkpoints", need=_disk_space(state)))
    train_loader = make_train_loader(ctx, task)
    began = ctx.clock.now()
    val_loader = make_eval_loader(ctx, task, ctx.dataset.in_split("val"))
    reading_seconds = ctx.clock.now() - began
    if resolved.step_seconds is None:
        length = RunLength(steps=task.steps_in(resolved.recipe.run.epochs or 1), time=None)
    else:
        time_plan = make_time_plan(
            ctx, (state, task), val_loader, reading_seconds=reading_seconds, step_seconds=resolved.step_seconds
        )
        length = RunLength(steps=None, time=time_plan)
    plan = Plan(
        source=request.source,
        fingerprint=ctx.dataset.fingerprint(),
        recipe=resolved.recipe,
        teacher=teacher.fingerprint if teacher else None,
        length=length,
        threads=torch.get_num_threads(),
    )
    ctx.dist.run_on_main(lambda: write_plan(ctx.run_dir, plan, ctx.dataset))
    return _run_loop(ctx, TrainSetup(state, task, train_loader, val_loader, length.make_budget()), teacher)


def _resume(
    run_dir: Path,
    reporter: Reporter,
    clock: Clock,
    *,
    parallel: dict[str, Any] | None = None,
    source: DataSource | None = None,
    extension: Extension | None = None,
    report: bool = True,
) -> Run:
    dist, planned = get_dist_context(), read_plan(run_dir)
    recipe = planned.recipe
    if recipe.pretraining is not None:
        raise ConfigError(
            f"{run_dir} is a pretraining: resume it with megavit pretrain --resume {shell_quote(str(run_dir))}"
        )
    if extension is not None:
        numbers = dist.run_on_main(lambda: check_extendable(run_dir, planned))
        recipe = extend_recipe(recipe, numbers, extension)
    plan = replace(planned, recipe=override_parallel(recipe, parallel or {}, dist))
    if plan.recipe.parallel.nproc == (planned.recipe.parallel.nproc or 1):
        torch.set_num_threads(plan.threads)
    with dist.main_process_only(lock_run_dir(run_dir)):
        location = check_source(plan.source, run_dir) if source is None else source
        ctx = replace(_open_run(run_dir, location, plan.recipe, reporter, clock), write_report=report)
        if ctx.dataset.fingerprint() != plan.fingerprint:
            raise DataError(
                f"{ctx.dataset.source} has changed since the run began: its images, labels or splits differ from "
                f"{run_dir / 'samples.csv'}: restore them, or start a new run"
            )
        if source is not None and is_named(source):
            planned = replace(planned, source=portable_name(ctx.dataset))
            dist.run_on_main(lambda: write_plan(run_dir, planned, ctx.dataset))
            reporter.say(f"the images are the same, and are now read from {planned.source}")
        if plan.length is None:
            return resume_finetuning(ctx, plan)
        length = plan.length
        if length.time is not None:
            # Initial estimate for the new number of processes, updated by the budget.
            speedup = plan.recipe.parallel.dp_world_size / planned.recipe.parallel.dp_world_size
            length = replace(length, time=replace(length.time, step=length.time.step / speedup))
        teacher = load_teacher(ctx, plan.recipe)
        if teacher is not None and teacher.fingerprint != plan.teacher:
            raise DataError(
                f"the weights of the teacher {teacher.pretrained.name} have changed since the run began: restore them, "
                "or start a new run"
            )
        setup, length = _restore(ctx, plan.recipe, length, extension, teacher_dim=teacher.dim if teacher else 0)
        if extension is not None:
            extended = replace(planned, recipe=recipe, length=length)
            dist.run_on_main(lambda: write_plan(run_dir, extended, ctx.dataset))
            dist.run_on_main(lambda: write_restart_marker(run_dir))
        state = setup.state
        if state.step == length.first_step > 0:
            state.extend()
            reporter.say(
                f"extending the run after step {state.step:,}: the learning rate rises again to "
                f"{EXTENSION_PEAK:.0%} of its peak"
            )
        else:
            reporter.say(f"resuming after step {state.step:,}, {state.progress:.0%} of the run")
        return _run_loop(replace(ctx, clock=ctx.clock.after(state.seconds)), setup, teacher)


def _restore(
    ctx: RunContext, recipe: Recipe, length: RunLength, extension: Extension | None, *, teacher_dim: int
) -> tuple[TrainSetup, RunLength]:
    """Return the run at its newest intact checkpoint, or at its first step if there is none, and its length."""
    check_resources(recipe, ctx.dataset, ctx.device)
    state, task = build_training(ctx, recipe, teacher_dim=teacher_dim)
    train_loader = make_train_loader(ctx, task)
    began = ctx.clock.now()
    val_loader = make_eval_loader(ctx, task, ctx.dataset.in_split("val"))
    reading_seconds = ctx.clock.now() - began
    folder = ctx.run_dir / "checkpoints"
    ctx.dist.run_on_main(lambda: remove_incomplete(folder))
    if ctx.dist.run_on_main(lambda: list_checkpoints(folder)):
        for fault in load_checkpoint(folder, state):
            ctx.reporter.say(f"skipped a damaged checkpoint: {fault}")
    if state.step < length.first_step or (extension is not None and state.progress < 1):
        raise BundleError(
            f"the last checkpoint before the extension is damaged, so the run cannot be extended: train its bundle "
            f"further as a new run, with megavit train DATA --from {shell_quote(str(ctx.run_dir))}"
        )
    if extension is not None:
        length = plan_extension(ctx, (state, task), val_loader, extension, reading_seconds=reading_seconds)
    return TrainSetup(state, task, train_loader, val_loader, length.make_budget()), length


def _run_loop(ctx: RunContext, setup: TrainSetup, teacher: Teacher | None) -> Run:
    with tracking(ctx, setup.task.recipe) as tracked, advise_resuming(ctx.run_dir):
        if teacher is not None:
            tracked, setup = _add_targets(tracked, setup, teacher)
        return _fit(tracked, setup)


def _add_targets(ctx: RunContext, setup: TrainSetup, teacher: Teacher) -> tuple[RunContext, TrainSetup]:
    """Return the inputs of the loop with the teacher's outputs; the time that they took before a stop counts."""
    outputs = open_outputs(ctx, setup.task, teacher)
    ctx = replace(ctx, clock=ctx.clock.after(max(0.0, outputs.elapsed - setup.state.seconds)))
    targets = compute_targets(ctx, setup.task, teacher, outputs)
    setup.train_loader.keys = torch.arange(len(setup.train_loader))
    return ctx, replace(setup, task=replace(setup.task, teacher=targets))


def _fit(ctx: RunContext, setup: TrainSetup) -> Run:
    state, budget, elapsed = setup.state, setup.budget, ctx.clock.elapsed
    is_done = state.progress == 1
    steps = state.step if is_done else budget.next_step(state.step, state.progress, elapsed).steps
    ctx.reporter.plan(setup.task.recipe, steps, sum(p.numel() for p in state.model.parameters()))
    if isinstance(budget, TimeBudget) and not is_done and budget.seconds_left(elapsed) <= 0:
        ctx.reporter.say("no time is left for training, so only a few steps are trained: increase --minutes")
    fit_with_recovery(ctx, setup)
    if ctx.dist.is_distributed:
        from megavit.training.checkpoint.distributed import gather_full_state

        state = gather_full_state(state)
    train_images = shrink_training_images(setup.train_loader, setup.task.preprocessing)
    inputs = EvalInputs(setup.val_loader, train_images=train_images)
    return ctx.dist.run_on_main(lambda: finalize(ctx, state, setup.task, inputs), wait_long=True)


def _portable_source(teacher: Teacher) -> str:
    name = teacher.pretrained.name
    return str(Path(name).absolute()) if name not in BACKBONES and Path(name).exists() else name


def _disk_space(state: TrainState) -> int:
    """Return the bytes of five checkpoints (weights, EMA, best, and two moments each) and the bundle."""
    weights = sum(p.numel() * p.element_size() for p in state.model.parameters())
    return 5 * 5 * weights + 2 * weights + 2**24
