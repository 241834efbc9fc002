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

import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from megavit.check.quick import warnings_of
from megavit.config.files import merge
from megavit.config.recipe import Recipe
from megavit.config.recipes import named_recipe
from megavit.data.read import read_data
from megavit.data.samples import LabelledImages
from megavit.errors import DataError
from megavit.runtime.device import pick_device
from megavit.runtime.storage import check_writable
from megavit.train.checkpoint import checkpoints, load_checkpoint, remove_unfinished
from megavit.train.feed import Feed
from megavit.train.finish import Trained, finish
from megavit.train.lock import only_process
from megavit.train.loop import Task, fit
from megavit.train.pace import ByClock, Pace, pace_of
from megavit.train.plan import Plan, check_place, read_plan, write_plan
from megavit.train.prepare import (
    batches_of,
    choose_by_time,
    fresh,
    steps_of,
    time_plan,
    training_feed,
    validation_feed,
    validator,
)
from megavit.train.resolve import (
    check_mixing,
    choose_recipe,
    for_tuning,
    resolve,
    resolve_tuning,
    settle_mixing,
)
from megavit.train.resumable import resumable
from megavit.train.signals import StopRequest
from megavit.train.speed import measure
from megavit.train.state import TrainState
from megavit.train.targets import fit_to_target, settle_balance
from megavit.train.tune import begin_tuning, go_on_tuning
from megavit.train.watch import Watch
from megavit.weights.source import read_source


def train(
    source: str, out: Path, *, recipe: str, changes: dict[str, Any], watch: Watch, began: float | None = None
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
    check_place(out, source)
    if not is_text(source):
        raise DataError(f"the name {source!r} is not text, so that the run could not record it; rename the folder")
    # Wrong settings show before the images are read; "small" stands in for a choice that needs the images.
    wanted = merge(named_recipe("small" if recipe == "auto" else recipe), changes, "the recipe")
    check_mixing(wanted, changes)
    init = None if wanted.model.init is None else read_source(wanted.model.init)
    device = pick_device(wanted.run.device)
    check_writable(out, "the run", need=0)

    with only_process(out):
        images = read_images(source, wanted, watch)
        base = named_recipe(choose_recipe(images) if recipe == "auto" else recipe)
        named = merge(base if init is None else for_tuning(base), changes, "the recipe")
        named = settle_mixing(settle_balance(fit_to_target(named, changes, images), images, watch), watch)
        if init is not None:
            named = resolve_tuning(named, changes, init, images, device)
            return begin_tuning(out, recorded_name(source, images), named, init, images, device, watch, began)
        choice = None if named.run.epochs else choose_by_time(named, images, device, began, watch)
        state, task = fresh(choice.recipe if choice else resolve(named, images, device), images, device)
        check_writable(out, "the run with its checkpoints", need=room_needed(state))

        training = training_feed(task, images, watch)
        before = time.monotonic()
        validation = validation_feed(task, images, watch)
        reading = time.monotonic() - before
        if choice is None and task.recipe.run.precision == "auto":
            task = choose_precision(state, task, training, watch)
        plan = Plan(
            source=recorded_name(source, images),
            fingerprint=images.fingerprint(),
            recipe=task.recipe,
            steps=steps_of(task, named.run.epochs) if named.run.epochs else None,
            time=time_plan(state, task, images, validation, reading, choice.step) if choice else None,
            threads=torch.get_num_threads(),
        )
        write_plan(out, plan, images)
        pace = pace_of(plan.steps, plan.time)
        return go(out, state, task, pace, (training, validation), images, watch, began)


def resume(out: Path, *, watch: Watch, began: float | None = None) -> Trained:
    """Go on with the run in `out` from its newest sound checkpoint; on a CPU, to the bit as if never stopped.

    A run by the clock has the time that it had left at that checkpoint, from `began` (None: now) on.

    Raises:
        BundleError: when there is no run to go on with.
        DataError: when the images are not what they were.
        And what `train` raises.
    """
    began = time.monotonic() if began is None else began
    plan = read_plan(out)
    torch.set_num_threads(plan.threads)
    device = pick_device(plan.recipe.run.device)
    with only_process(out):
        images = read_images(plan.source, plan.recipe, watch)
        if images.fingerprint() != plan.fingerprint:
            raise DataError(
                f"{plan.source} is not what it was when the run began: images, labels or splits differ from "
                f"{out / 'samples.csv'}; put them back, or start a new run"
            )
        if plan.init is not None:
            return go_on_tuning(out, plan, images, device, watch, began)
        state, task = fresh(plan.recipe, images, device)
        feeds = (training_feed(task, images, watch), validation_feed(task, images, watch))
        remove_unfinished(out / "checkpoints")
        # Without a checkpoint the stop came before the first one: the run begins again, with the same plan.
        if checkpoints(out / "checkpoints"):
            for fault in load_checkpoint(out / "checkpoints", state):
                watch.say(f"left out a damaged checkpoint: {fault}")
        watch.say(f"going on after step {state.step:,}, {state.progress:.0%} of the run")
        return go(out, state, task, pace_of(plan.steps, plan.time), feeds, images, watch, began - state.seconds)


def recorded_name(source: str, images: LabelledImages) -> str:
    """What the user calls the data, such that it is found from any folder."""
    return source if images.root is None else str(Path(source).absolute())


def is_text(name: str) -> bool:
    """Whether a file name, which can be any bytes, can also be written down."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_images(source: str, recipe: Recipe, watch: Watch) -> LabelledImages:
    """The data, with something in each split."""
    images = read_data(
        source,
        recipe.data,
        lambda done, total: watch.progress("checking images", done, total),
        needs=("val", "test"),
        verify="none",
    )
    for split in ("train", "val", "test"):
        if not images.of(split):
            raise DataError(
                f"there are no images for {split}: {images.division}. "
                "A class gives one to each split if it has at least 3; add images, or a split of your own"
            )
    watch.data(images)
    for line in warnings_of(images):
        watch.say(line)
    return images


def choose_precision(state: TrainState, task: Task, training: Feed, watch: Watch) -> Task:
    """The task in the precision that measures faster on this machine."""
    watch.say("measuring the speed of a step")
    precision, _ = measure(state, task, next(batches_of(training, task, 0, 1)))
    return replace(task, recipe=replace(task.recipe, run=replace(task.recipe.run, precision=precision)))


def go(
    out: Path,
    state: TrainState,
    task: Task,
    pace: Pace,
    feeds: tuple[Feed, Feed],
    images: LabelledImages,
    watch: Watch,
    began: float,
) -> Trained:
    """Train from where `state` stands, then write bundle and report; an error says how to go on."""
    training, validation = feeds
    stop = StopRequest()
    used = time.monotonic() - began
    steps = pace.stride(state.step, state.progress, used).steps if state.progress < 1 else state.step
    watch.plan(task.recipe, steps, sum(p.numel() for p in state.model.parameters()))
    if isinstance(pace, ByClock) and state.progress < 1 and pace.left(used) <= 0:
        watch.say("the time is up before the first step: a few are trained all the same; more --minutes would help")
    with resumable(out):
        with stop.listening(), closing(batches_of(training, task, state.step, sys.maxsize)) as batches:
            fit(state, task, pace, batches, validator(validation, task), out, stop, watch, began)
        return finish(out, state, task, images, validation, watch)


def room_needed(state: TrainState) -> int:
    """Bytes on disk: three checkpoints, for a moment, of weights, average, best and two moments, and the bundle."""
    weights = sum(p.numel() * p.element_size() for p in state.model.parameters())
    return 3 * 5 * weights + 2 * weights + 2**24
