"""A training run from data to bundle, and its continuation after a stop.

OUT/plan.json       what was decided before the first step; what `resume` needs
OUT/recipe.toml     the recipe as it is run, for people and for `--recipe`
OUT/samples.csv     every image, its class, its split
OUT/skipped.csv     every file that was found and not used, and why
OUT/log.jsonl       a line an epoch
OUT/checkpoints/    the whole state
OUT/bundle/         what is used afterwards
OUT/report.html     what came of it, with figures/ beside it
"""

import math
import shlex
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from megavit.config.files import merge
from megavit.config.recipe import Recipe
from megavit.config.recipes import named_recipe
from megavit.data.augment import canvas_size
from megavit.data.order import BatchOrder, equal_class_weights
from megavit.data.read import read_data
from megavit.data.samples import LabelledImages
from megavit.errors import DataError, Interrupted, OutputError, signal_of
from megavit.model.vit import MegaVit
from megavit.predict.logits import logits_of
from megavit.runtime.device import pick_device
from megavit.runtime.seeds import seed_all
from megavit.runtime.storage import check_writable
from megavit.train.checkpoint import checkpoints, load_checkpoint, remove_unfinished
from megavit.train.feed import Feed
from megavit.train.finish import Trained, finish
from megavit.train.loop import Batch, Task, Validate, fit
from megavit.train.memory import check_memory
from megavit.train.plan import Plan, check_place, read_plan, write_plan
from megavit.train.resolve import choose_recipe, model_config, preprocessing_of, resolve, short_side
from megavit.train.signals import StopRequest
from megavit.train.speed import measure
from megavit.train.state import TrainState
from megavit.train.watch import Watch

VALIDATION_BATCH = 256


def train(source: str, out: Path, *, recipe: str, changes: dict[str, Any], watch: Watch) -> Trained:
    """Train on `source` and write everything to the new folder `out`.

    Args:
        source: a folder of class folders, a table, or demo:NAME.
        out: new or empty, and not within the data.
        recipe: a name of `megavit.config.recipes.RECIPES`, or "auto", by the images.
        changes: settings, nested as in `Recipe`, that take the place of the recipe's.
        watch: is told how it goes.

    Raises:
        ConfigError, DataError, OutputError: before anything is trained.
        Interrupted: when a signal asked to stop; `resume` goes on.
        TrainingError: when the loss is no longer a number.
    """
    check_place(out, source)
    if not is_text(source):
        raise DataError(f"the name {source!r} is not text, so that the run could not record it; rename the folder")
    # Wrong settings show before the images are read; "small" stands in for a choice that needs the images.
    wanted = merge(named_recipe("small" if recipe == "auto" else recipe), changes, "the recipe")
    device = pick_device(wanted.run.device)
    check_writable(out, "the run", need=0)

    images = read_images(source, wanted, watch)
    named = merge(named_recipe(choose_recipe(images) if recipe == "auto" else recipe), changes, "the recipe")
    resolved = resolve(named, images, device)
    state, task, feeds = prepare(resolved, images, device, watch)
    check_writable(out, "the run with its checkpoints", need=room_needed(state))

    task = choose_steps(state, task, feeds, watch)
    plan = Plan(
        source=source if images.root is None else str(Path(source).absolute()),
        fingerprint=images.fingerprint(),
        recipe=task.recipe,
        steps=task.steps,
        threads=torch.get_num_threads(),
    )
    write_plan(out, plan, images)
    return go(out, state, task, feeds, images, watch)


def resume(out: Path, *, watch: Watch) -> Trained:
    """Go on with the run in `out` from its newest sound checkpoint; on a CPU, to the bit as if never stopped.

    Raises:
        BundleError: when there is no run to go on with.
        DataError: when the images are not what they were.
        And what `train` raises.
    """
    plan = read_plan(out)
    torch.set_num_threads(plan.threads)
    device = pick_device(plan.recipe.run.device)
    images = read_images(plan.source, plan.recipe, watch)
    if images.fingerprint() != plan.fingerprint:
        raise DataError(
            f"{plan.source} is not what it was when the run began: images, labels or splits differ from "
            f"{out / 'samples.csv'}; put them back, or start a new run"
        )
    state, task, feeds = prepare(plan.recipe, images, device, watch)
    task = replace(task, steps=plan.steps)
    remove_unfinished(out / "checkpoints")
    # Without a checkpoint the stop came before the first one: the run begins again, with the same plan.
    if checkpoints(out / "checkpoints"):
        for fault in load_checkpoint(out / "checkpoints", state):
            watch.say(f"left out a damaged checkpoint: {fault}")
    watch.say(f"going on after step {state.step} of {plan.steps}")
    return go(out, state, task, feeds, images, watch)


def is_text(name: str) -> bool:
    """Whether a file name, which can be any bytes, can also be written down."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_images(source: str, recipe: Recipe, watch: Watch) -> LabelledImages:
    """The data, with something in each split."""
    images = read_data(source, recipe.data, lambda done, total: watch.progress("checking images", done, total))
    for split in ("train", "val", "test"):
        if not images.of(split):
            raise DataError(
                f"there are no images for {split}: {images.division}. "
                "A class gives one to each split if it has at least 3; add images, or a split of your own"
            )
    watch.data(images)
    return images


def prepare(
    recipe: Recipe, images: LabelledImages, device: torch.device, watch: Watch
) -> tuple[TrainState, Task, tuple[Feed, Feed]]:
    """A fresh state, its task, and the training and validation images. The task's steps are not chosen yet."""
    config = model_config(recipe, len(images.classes))
    check_memory(config, recipe.run.batch_size, device)
    seed_all(recipe.run.seed)
    model = MegaVit.from_config(config).to(device)
    preprocessing = preprocessing_of(config, images)
    training, validation = images.of("train"), images.of("val")
    workers, channels = recipe.run.workers, preprocessing.channels
    canvas = canvas_size(preprocessing, recipe.augment, short_side(training))
    train_feed = Feed(images, training, (channels, *canvas), workers, watch)
    size = (channels, preprocessing.height, preprocessing.width)
    task = Task(
        recipe=recipe,
        preprocessing=preprocessing,
        num_classes=len(images.classes),
        class_weights=class_weights(train_feed.labels, len(images.classes), recipe, device),
        steps=0,
        images=len(training),
    )
    feeds = (train_feed, Feed(images, validation, size, workers, watch))
    return TrainState.fresh(model, recipe.optimiser), task, feeds


def class_weights(labels: torch.Tensor, classes: int, recipe: Recipe, device: torch.device) -> torch.Tensor | None:
    """(classes,) factors with which every class counts as much in the loss, of mean 1 over the images."""
    if recipe.data.balance != "loss":
        return None
    return (len(labels) / (classes * torch.bincount(labels, minlength=classes))).to(device)


def choose_steps(state: TrainState, task: Task, feeds: tuple[Feed, Feed], watch: Watch) -> Task:
    """The task with its number of steps and its precision filled in, measured on this machine where not given."""
    run, (training, validation) = task.recipe.run, feeds
    per_epoch = len(training) / run.batch_size
    if run.epochs is not None and run.precision != "auto":
        return replace(task, steps=math.ceil(run.epochs * per_epoch))
    watch.say("measuring the speed of a step")
    precision, step_seconds = measure(state, task, next(batches_of(training, task, 0, 1)))
    task = replace(task, recipe=replace(task.recipe, run=replace(run, precision=precision)))
    if run.epochs is not None:
        return replace(task, steps=math.ceil(run.epochs * per_epoch))
    start = time.perf_counter()
    validator(validation, task)(state.average)
    step_seconds += (time.perf_counter() - start) / per_epoch
    return replace(task, steps=max(1, int(run.minutes * 60 / step_seconds)))


def go(
    out: Path,
    state: TrainState,
    task: Task,
    feeds: tuple[Feed, Feed],
    images: LabelledImages,
    watch: Watch,
) -> Trained:
    """Train from where `state` stands, then write bundle and report; an error says how to go on."""
    training, validation = feeds
    stop = StopRequest()
    how_to_go_on = f"go on with megavit train --resume {shlex.quote(str(out))}"
    watch.plan(task.recipe, task.steps, sum(p.numel() for p in state.model.parameters()))
    try:
        with stop.listening():
            batches = batches_of(training, task, state.step, task.steps)
            fit(state, task, batches, validator(validation, task), out, stop, watch)
        return finish(out, state, task, images, validation, watch)
    except Interrupted as error:
        raise Interrupted(f"{error}: {how_to_go_on}", stop.signal) from None
    except KeyboardInterrupt as interrupt:
        raise Interrupted(f"stopped at once: {how_to_go_on}", signal_of(interrupt)) from None
    except (DataError, OutputError) as error:
        raise type(error)(f"{error}. When that is mended, {how_to_go_on}") from error


def batches_of(feed: Feed, task: Task, start: int, steps: int) -> Iterator[Batch]:
    run = task.recipe.run
    weights = equal_class_weights(feed.labels.tolist()) if task.recipe.data.balance == "sampler" else None
    return feed.batches(BatchOrder(len(feed), run.batch_size, run.seed, start=start, steps=steps, weights=weights))


def validator(feed: Feed, task: Task) -> Validate:
    """Maps a model to its (mean negative log-likelihood, accuracy) on the images of `feed`."""

    def validate(model: nn.Module) -> tuple[float, float]:
        batches = feed.in_turn(VALIDATION_BATCH)
        logits = torch.cat(list(logits_of(model, batches, task.preprocessing, task.dtype)))
        accuracy = (logits.argmax(dim=1) == feed.labels).float().mean().item()
        return F.cross_entropy(logits, feed.labels).item(), accuracy

    return validate


def room_needed(state: TrainState) -> int:
    """Bytes on disk: three checkpoints, for a moment, of weights, average, best and two moments, and the bundle."""
    weights = sum(p.numel() * p.element_size() for p in state.model.parameters())
    return 3 * 5 * weights + 2 * weights + 2**24
