"""A training run from data to bundle, and its continuation after a stop.

OUT/plan.json       what was decided before the first step; what `resume` needs
OUT/recipe.toml     the recipe as it is run, for people and for `--recipe`
OUT/samples.csv     every image, its class, its split
OUT/skipped.csv     every file that was found and not used, and why
OUT/log.jsonl       a line an epoch
OUT/checkpoints/    the whole state
OUT/rungs/          instead of these two, where weights are begun with: the same for each part of the training
OUT/bundle/         what is used afterwards
OUT/report.html     what came of it, with figures/ beside it
"""

import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from megavit.check.quick_checks import data_warnings
from megavit.config.recipe import Recipe
from megavit.config.recipes import get_recipe
from megavit.config.serialization import merge
from megavit.data.byte_range import is_url
from megavit.data.dataset import LabeledImages
from megavit.data.load import load_data
from megavit.data.shards.index import is_tar
from megavit.data.sources.demo import PREFIX
from megavit.distributed.context import ParallelContext
from megavit.errors import DataError
from megavit.runtime.process_group import DistContext, get_dist_context
from megavit.runtime.storage import check_writable
from megavit.train.budget.measure import choose_by_time, settle_precision, time_plan
from megavit.train.checkpoint.checkpoint import list_checkpoints, load_checkpoint, remove_incomplete
from megavit.train.clock import Budget, TimeBudget, make_budget
from megavit.train.data import TrainLoader
from megavit.train.finetune.finetune import begin_tuning, go_on_tuning
from megavit.train.loop.build import (
    fresh,
    steps_of,
    training_feed,
    validation_feed,
)
from megavit.train.loop.loop import Task
from megavit.train.loop.recovery import fit_with_recovery
from megavit.train.progress import NullReporter, Reporter
from megavit.train.report.finalize import Trained, finish
from megavit.train.run_dir import (
    PLAN,
    Plan,
    check_place,
    is_restart,
    mark_begun,
    only_process,
    read_plan,
    resumable,
    write_plan,
)
from megavit.train.setup.parallel import relaid, settle_layout
from megavit.train.setup.resolve import (
    check_mixing,
    choose_recipe,
    for_tuning,
    resolve,
    resolve_tuning,
    settle_mixing,
)
from megavit.train.setup.targets import fit_to_target, settle_balance
from megavit.train.signals import StopRequest
from megavit.train.state import TrainState
from megavit.weights.pretrained.pretrained import PretrainedModel, load_pretrained


def begin(out: Path, source: str) -> bool:
    """Check that a run can begin in `out`, and mark it as begun; whether one that these processes began is there."""
    if not is_restart(out):
        check_place(out, source)
    if not is_text(source):
        raise DataError(f"the name {source!r} is not text, so that the run could not record it; rename the folder")
    check_writable(out, "the run", need=0)
    mark_begun(out)
    return (out / PLAN).exists()


def check_same(images: LabeledImages, dist: DistContext) -> None:
    """Raise a DataError unless every process has read the same images."""
    found = dist.all_gather(images.fingerprint())
    other = [rank for rank, fingerprint in enumerate(found) if fingerprint != found[0]]
    if other:
        raise DataError(
            f"processes {', '.join(map(str, other))} read other images than process 0: {images.source} must be the "
            "same on every machine"
        )


def recorded_name(source: str, images: LabeledImages) -> str:
    """What the user calls the data, such that it is found from any folder."""
    return source if images.root is None else str(Path(source).absolute())


def still_there(source: str, out: Path) -> str:
    """Return the recorded name of the data of the run in `out`.

    Raises:
        DataError: where there is nothing by that name any more, saying how to go on.
    """
    place = Path(source).parent if is_tar(source) else Path(source)
    if source.startswith(PREFIX) or is_url(source) or place.exists():
        return source
    raise DataError(
        f"the images of this run are no longer at {source}: put them back, or say where they are now, with "
        f"megavit train --resume {shlex.quote(str(out))} DATA"
    )


def is_text(name: str) -> bool:
    """Whether a file name, which can be any bytes, can also be written down."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_images(source: str, recipe: Recipe, watch: Reporter) -> LabeledImages:
    """The data, with something in each split."""
    images = load_data(
        source,
        recipe.data,
        lambda done, total: watch.progress("checking images", done, total),
        needs=("val", "test"),
        verify="none",
    )
    for split in ("train", "val", "test"):
        if not images.in_split(split):
            raise DataError(
                f"there are no images for {split}: {images.split_description}. "
                "A class gives one to each split if it has at least 3; add images, or a split of your own"
            )
    watch.data(images)
    return images


def tell_warnings(images: LabeledImages, dist: DistContext, watch: Reporter) -> None:
    """Say what shows of the images without looking at a pixel; the leader alone looks."""
    for line in data_warnings(images) if dist.is_main_process else []:
        watch.say(line)


def train(
    source: str, out: Path, *, recipe: str, changes: dict[str, Any], watch: Reporter, began: float | None = None
) -> Trained:
    """Train on `source` and write everything to the new folder `out`.

    Args:
        source: a folder of class folders, a table, or demo:NAME.
        out: new or empty, and not within the data.
        recipe: a name of `megavit.config.recipes.RECIPES`, or "auto", by the images.
        changes: settings, nested as in `Recipe`, that take the place of the recipe's.
        watch: is told how it goes.
        began: the `time.monotonic()` from which the recipe's minutes count; None: now.

    Raises:
        BundleError, ConfigError, DataError, OutputError: before anything is trained.
        Interrupted: when a signal asked to stop; `resume` goes on.
        TrainingError: when the loss is no longer a number.
    """
    began = time.monotonic() if began is None else began
    dist = get_dist_context()
    watch = watch if dist.is_main_process else NullReporter()
    # Wrong settings show before the images are read; "small" stands in for a choice that needs the images.
    wanted = merge(get_recipe("small" if recipe == "auto" else recipe), changes, "the recipe")
    wanted = settle_layout(wanted, dist)
    check_mixing(wanted, changes)
    init = None if wanted.model.init is None else load_pretrained(wanted.model.init, whole_images=True, head=False)
    device = dist.pick_device(wanted.run.device)

    with dist.init_process_group(device, wanted.parallel.timeout_seconds):
        if dist.run_on_main(lambda: begin(out, source)):
            return go_on(out, {}, dist, watch, began)
        with dist.main_process_only(only_process(out)):
            return start(source, out, recipe, changes, init, device, dist, watch, began)


def start(
    source: str,
    out: Path,
    recipe: str,
    changes: dict[str, Any],
    init: PretrainedModel | None,
    device: torch.device,
    dist: DistContext,
    watch: Reporter,
    began: float,
) -> Trained:
    """As `train`, in a folder that is this run's."""
    wanted = merge(get_recipe("small" if recipe == "auto" else recipe), changes, "the recipe")
    images = read_images(source, wanted, watch)
    tell_warnings(images, dist, watch)
    check_same(images, dist)
    base = get_recipe(choose_recipe(images) if recipe == "auto" else recipe)
    named = settle_layout(merge(base if init is None else for_tuning(base), changes, "the recipe"), dist)
    named = settle_mixing(settle_balance(fit_to_target(named, changes, images), images, watch), watch)
    parallel = ParallelContext(dist, named.parallel, device)
    if init is not None:
        named = dist.run_on_main(lambda: resolve_tuning(named, changes, init, images, device))
        return begin_tuning(out, recorded_name(source, images), named, init, images, device, watch, began, parallel)
    choice = None if named.run.epochs else choose_by_time(named, images, device, began, watch, parallel)
    resolved = choice.recipe if choice else dist.run_on_main(lambda: resolve(named, images, device))
    resolved = settle_precision(resolved, images, device, watch, parallel)
    state, task = fresh(resolved, images, device, parallel=parallel)
    dist.run_on_main(lambda: check_writable(out, "the run with its checkpoints", need=room_needed(state)))

    training = training_feed(task, images, watch)
    before = time.monotonic()
    validation = validation_feed(task, images, watch)
    reading = time.monotonic() - before
    plan = Plan(
        source=recorded_name(source, images),
        fingerprint=images.fingerprint(),
        recipe=task.recipe,
        steps=steps_of(task, named.run.epochs) if named.run.epochs else None,
        time=time_plan(state, task, images, validation, reading, choice.step) if choice else None,
        threads=torch.get_num_threads(),
    )
    dist.run_on_main(lambda: write_plan(out, plan, images))
    budget = make_budget(plan.steps, plan.time)
    return go(out, state, task, budget, (training, validation), images, watch, began)


def resume(
    out: Path,
    *,
    watch: Reporter,
    began: float | None = None,
    parallel: dict[str, Any] | None = None,
    source: str | None = None,
) -> Trained:
    """Go on with the run in `out` from its newest sound checkpoint; on a CPU, to the bit as if never stopped.

    A run by the clock has the time that it had left at that checkpoint, from `began` (None: now) on. Another number
    of processes than before may go on: to rounding, it comes to the same.

    Args:
        parallel: settings of `megavit.config.recipe.ParallelRecipe` that take the place of the run's.
        source: where the images are now, if they have moved; it is recorded.

    Raises:
        BundleError: when there is no run to go on with.
        DataError: when the images are not what they were.
        And what `train` raises.
    """
    began = time.monotonic() if began is None else began
    dist = get_dist_context()
    watch = watch if dist.is_main_process else NullReporter()
    recipe = relaid(read_plan(out).recipe, parallel or {}, dist)
    with dist.init_process_group(dist.pick_device(recipe.run.device), recipe.parallel.timeout_seconds):
        return go_on(out, parallel or {}, dist, watch, began, source)


def go_on(
    out: Path, overrides: dict[str, Any], dist: DistContext, watch: Reporter, began: float, moved: str | None = None
) -> Trained:
    """As `resume`, of processes that have joined."""
    plan = read_plan(out)
    recipe = relaid(plan.recipe, overrides, dist)
    if recipe.parallel.nproc == (plan.recipe.parallel.nproc or 1):
        torch.set_num_threads(plan.threads)
    device = dist.pick_device(recipe.run.device)
    with dist.main_process_only(only_process(out)):
        source = moved or still_there(plan.source, out)
        images = read_images(source, recipe, watch)
        tell_warnings(images, dist, watch)
        check_same(images, dist)
        if images.fingerprint() != plan.fingerprint:
            raise DataError(
                f"{source} is not what it was when the run began: images, labels or splits differ from "
                f"{out / 'samples.csv'}; put them back, or start a new run"
            )
        if moved is not None:
            plan = replace(plan, source=recorded_name(moved, images))
            dist.run_on_main(lambda: write_plan(out, plan, images))
            watch.say(f"the images are the same, and now at {plan.source}")
        parallel = ParallelContext(dist, recipe.parallel, device)
        if plan.init is not None:
            return go_on_tuning(out, replace(plan, recipe=recipe), images, device, watch, began, parallel)
        state, task = fresh(recipe, images, device, parallel=parallel)
        feeds = (training_feed(task, images, watch), validation_feed(task, images, watch))
        dist.run_on_main(lambda: remove_incomplete(out / "checkpoints"))
        # Without a checkpoint the stop came before the first one: the run begins again, with the same plan.
        if dist.run_on_main(lambda: list_checkpoints(out / "checkpoints")):
            for fault in load_checkpoint(out / "checkpoints", state):
                watch.say(f"left out a damaged checkpoint: {fault}")
        # What more processes, or fewer, are likely to need; the budget finds out.
        faster = recipe.parallel.places / plan.recipe.parallel.places
        expected = plan.time and replace(plan.time, step=plan.time.step / faster)
        watch.say(f"going on after step {state.step:,}, {state.progress:.0%} of the run")
        return go(out, state, task, make_budget(plan.steps, expected), feeds, images, watch, began - state.seconds)


def go(
    out: Path,
    state: TrainState,
    task: Task,
    budget: Budget,
    feeds: tuple[TrainLoader, TrainLoader],
    images: LabeledImages,
    watch: Reporter,
    began: float,
) -> Trained:
    """Train from where `state` stands, then write bundle and report; an error says how to go on."""
    stop = StopRequest()
    used = time.monotonic() - began
    steps = budget.next_step(state.step, state.progress, used).steps if state.progress < 1 else state.step
    watch.plan(task.recipe, steps, sum(p.numel() for p in state.model.parameters()))
    if isinstance(budget, TimeBudget) and state.progress < 1 and budget.seconds_left(used) <= 0:
        watch.say("the time is up before the first step: a few are trained all the same; more --minutes would help")
    with resumable(out):
        with stop.listening():
            fit_with_recovery(state, task, budget, feeds, out, stop, watch, began)
        if not state.parallel.dist.is_distributed:
            return finish(out, state, task, images, feeds[1], watch)
        from megavit.train.checkpoint.distributed import gather_full_state

        whole = gather_full_state(state)
        return state.parallel.dist.run_on_main(
            lambda: finish(out, whole, task, images, feeds[1], watch), wait_long=True
        )


def room_needed(state: TrainState) -> int:
    """Bytes on disk: five checkpoints, for a moment, of weights, average, best and two moments, and the bundle."""
    weights = sum(p.numel() * p.element_size() for p in state.model.parameters())
    return 5 * 5 * weights + 2 * weights + 2**24
