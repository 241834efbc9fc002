"""Predictions for every image by a model that has not learned from it: small ones, trained briefly, one a fold."""

import math
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from megavit.check.label_issues import OutOfFoldPredictions
from megavit.config.recipe import Recipe
from megavit.config.recipes import get_recipe
from megavit.config.serialization import merge
from megavit.data.dataset import LabeledImages
from megavit.data.targets import target_tensor
from megavit.errors import Interrupted
from megavit.evaluate.probes.cross_validation import Fold, make_folds
from megavit.runtime.device import pick_device
from megavit.train.budget.measure import choose_until, validation_seconds
from megavit.train.clock import TimeBudgetPlan
from megavit.train.data import TrainLoader
from megavit.train.finetune.stage import StagePlan, train_stage, write_stage
from megavit.train.history import EpochRecord
from megavit.train.loop.build import canvas, fresh
from megavit.train.loop.loop import Task
from megavit.train.progress import NullReporter, Reporter
from megavit.train.setup.resolve import choose_recipe
from megavit.train.state import TrainState

# With fewer images each one that is learned from counts; with more, it is time that is scarce.
FEW, FOLDS_OF_FEW, FOLDS_OF_MANY = 2_000, 5, 3
# No fold is trained for more passes, or steps, whichever are more: labels would be learned by heart.
PASSES, STEPS = 60, 300
MEASURING = 0.5


def out_of_fold(images: LabeledImages, minutes: float, watch: Reporter, device: str = "auto") -> OutOfFoldPredictions:
    """Probabilities of the classes for every sample, in cross-validation, within about so many minutes.

    Splits play no part: a wrong label in the test images counts too.

    Args:
        images: of one class each.
        watch: is told how much is done.

    Raises:
        ConfigError: for a device that is not there.
        DataError: when an image cannot be read any more.
        Interrupted: when a signal asked to stop.
    """
    until = time.monotonic() + minutes * 60
    chosen = pick_device(device)
    targets = target_tensor(images.samples, images.target, len(images.classes))
    divisions = make_folds(
        targets,
        FOLDS_OF_FEW if len(targets) <= FEW else FOLDS_OF_MANY,
        digests=[sample.digest for sample in images.samples],
    )
    settings = {"data": {"balance": "none"}, "run": {"device": device, "minutes": minutes / len(divisions)}}
    parts = [_divided(images, division) for division in divisions]
    recipe = merge(get_recipe(choose_recipe(parts[0])), settings, "the recipe")
    share = minutes * 60 / len(divisions)
    choice = choose_until(recipe, parts[0], chosen, time.monotonic() + share, share)
    probabilities = torch.empty(len(targets), len(images.classes))
    feeds: tuple[TrainLoader, TrainLoader] | None = None
    for number, (division, part) in enumerate(zip(divisions, parts, strict=True)):
        state, task = fresh(choice.recipe, part, chosen)
        feeds = feeds or _feeds(images, part, task)
        learned, held = feeds[0].part(division.train), feeds[1].part(division.held_out)
        limit = (until - time.monotonic()) / (len(divisions) - number)
        with TemporaryDirectory(prefix="megavit-") as folder:
            write_stage(Path(folder), _plan(state, task, held, choice.step, limit))
            try:
                told = _Progress(watch, number, len(divisions))
                stage = train_stage(Path(folder), state.model, "all", task, (learned, held), None, told)
            except Interrupted as error:
                raise Interrupted("stopped as asked; the labels were not checked", error.exit_code - 128) from None
        assert stage is not None  # it must
        probabilities[division.held_out] = stage.logits.softmax(dim=1)
    model = f"{len(divisions)} small models, each trained on the other images for {share / 60:.2g} minutes at most"
    return OutOfFoldPredictions(probabilities, torch.arange(len(targets)), model)


def _divided(images: LabeledImages, division: Fold) -> LabeledImages:
    """The images that are learned from as those for training, the others as those for validation."""
    samples = list(images.samples)
    for split, places in (("train", division.train), ("val", division.held_out)):
        for place in places.tolist():
            samples[place] = replace(samples[place], split=split)
    return replace(images, samples=tuple(samples))


def _feeds(images: LabeledImages, part: LabeledImages, task: Task) -> tuple[TrainLoader, TrainLoader]:
    """All images at the size they are learned from, and at the size they are judged at: one where that is the same."""
    size, margin = canvas(part, task)
    workers = task.recipe.run.workers
    learned = TrainLoader(images, images.samples, size, workers, NullReporter(), margin)
    if size == task.preprocessing and margin == 1:
        return learned, learned
    return learned, TrainLoader(images, images.samples, task.preprocessing, workers, NullReporter())


def _plan(state: TrainState, task: Task, held: TrainLoader, step: float, limit: float) -> StagePlan:
    """What fits into `limit` seconds, or less where that is plenty."""
    validation = validation_seconds(state, task, held, MEASURING)
    enough = max(STEPS, math.ceil(PASSES * task.images / task.batch_size))
    if enough * step + 5 * validation <= limit:
        return StagePlan(steps=enough, time=None)
    return StagePlan(
        steps=None,
        time=TimeBudgetPlan(total=max(0.1, limit), step=step, validation=validation, final_passes=2, finish=0.0),
    )


class _Progress:
    """Tells a watch how far all folds together are, and nothing else."""

    def __init__(self, watch: Reporter, number: int, num_folds: int) -> None:
        self.watch, self.number, self.num_folds = watch, number, num_folds

    def say(self, text: str) -> None: ...

    def progress(self, what: str, done: int, total: int) -> None: ...

    def data(self, images: LabeledImages) -> None: ...

    def plan(self, recipe: Recipe, steps: int, parameters: int) -> None: ...

    def step(self, step: int, steps: int, loss: float) -> None:
        done = (self.number + step / steps) / self.num_folds
        self.watch.progress("judging the labels, in per cent", round(100 * done), 100)

    def epoch(self, record: EpochRecord) -> None: ...
