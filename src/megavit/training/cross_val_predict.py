"""Predict every image by cross-validation, with small models that are trained briefly on the other folds."""

import math
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from megavit.config.recipes import get_recipe
from megavit.config.serialization import merge
from megavit.data.dataset import LabeledImages
from megavit.data.targets import target_tensor
from megavit.data_check.label_issues import OutOfFoldPredictions
from megavit.distributed.context import ParallelContext
from megavit.errors import Interrupted
from megavit.evaluation.probes.cross_validation import Fold, make_folds
from megavit.runtime.device import pick_device
from megavit.training.budget.measure import measure_validation
from megavit.training.clock import RunLength, TimeBudgetPlan
from megavit.training.context import RunContext
from megavit.training.data import TrainLoader
from megavit.training.finetune.stage import StageInputs, train_stage, write_stage
from megavit.training.loop.build import build_training, make_eval_loader, make_train_loader
from megavit.training.progress import NullReporter, Reporter
from megavit.training.setup.resolve import select_model
from megavit.training.setup.sizes import choose_recipe
from megavit.training.state import TrainState
from megavit.training.task import Task

# Small datasets need every training image, hence more folds; large ones need the time.
MAX_FEW_IMAGES, FOLDS_OF_FEW, FOLDS_OF_MANY = 2_000, 5, 3
# Upper limit of training per fold, the larger of the two; longer training would memorize labels.
MAX_EPOCHS, MAX_STEPS = 60, 300
MEASURING_SECONDS = 0.5


def cross_val_predict(
    dataset: LabeledImages, minutes: float, reporter: Reporter, device: str = "auto"
) -> OutOfFoldPredictions:
    """Return out-of-fold class probabilities for every sample, by cross-validation within about `minutes`.

    The dataset's own splits are ignored, so that wrong labels in the test images are found too.

    Raises:
        ConfigError: if the device does not exist.
        DataError: if an image can no longer be read.
        Interrupted: if a signal asked to stop.
    """
    until = time.monotonic() + minutes * 60
    labels = target_tensor(dataset.samples, dataset.target, len(dataset.classes))
    num_folds = FOLDS_OF_FEW if len(labels) <= MAX_FEW_IMAGES else FOLDS_OF_MANY
    folds = make_folds(labels, num_folds, digests=[sample.digest for sample in dataset.samples])
    seconds = minutes * 60 / len(folds)
    settings = {"data": {"balance": "none"}, "run": {"device": device, "minutes": seconds / 60}}
    contexts = [
        RunContext(Path(), _split(dataset, fold), pick_device(device), ParallelContext(), NullReporter())
        for fold in folds
    ]
    recipe = merge(get_recipe(choose_recipe(contexts[0].dataset)), settings, "the recipe")
    choice = select_model(contexts[0], recipe, time.monotonic() + seconds, seconds)
    probabilities = torch.empty(len(labels), len(dataset.classes))
    loaders: tuple[TrainLoader, TrainLoader] | None = None
    for number, (fold, ctx) in enumerate(zip(folds, contexts, strict=True)):
        state, task = build_training(ctx, choice.recipe)
        loaders = loaders or _make_loaders(ctx, task)
        inputs = StageInputs(state.model, task, loaders[0].subset(fold.train), loaders[1].subset(fold.held_out))
        budget_seconds = (until - time.monotonic()) / (len(folds) - number)
        with TemporaryDirectory(prefix="megavit-") as folder:
            write_stage(Path(folder), _plan_fold(state, inputs, choice.step_seconds, budget_seconds))
            ctx = replace(ctx, run_dir=Path(folder), reporter=_FoldReporter(reporter, number, len(folds)))
            try:
                stage = train_stage(ctx, inputs, "all", None)
            except Interrupted as error:
                raise Interrupted("stopped as requested; the labels were not checked", error.exit_code - 128) from None
        assert stage is not None  # because `force` is the default
        probabilities[fold.held_out] = stage.logits.softmax(dim=1)
    models = f"{len(folds)} small models, each trained on the other images for at most {seconds / 60:.2g} minutes"
    return OutOfFoldPredictions(probabilities, torch.arange(len(labels)), models)


def _split(dataset: LabeledImages, fold: Fold) -> LabeledImages:
    samples = list(dataset.samples)
    for split, indices in (("train", fold.train), ("val", fold.held_out)):
        for index in indices.tolist():
            samples[index] = replace(samples[index], split=split)
    return replace(dataset, samples=tuple(samples))


def _make_loaders(ctx: RunContext, task: Task) -> tuple[TrainLoader, TrainLoader]:
    samples = ctx.dataset.samples
    train_loader = make_train_loader(ctx, task, samples)
    if train_loader.images.preprocessing == task.preprocessing and train_loader.images.margin == 1:
        return train_loader, train_loader
    return train_loader, make_eval_loader(ctx, task, samples)


def _plan_fold(state: TrainState, inputs: StageInputs, step: float, budget_seconds: float) -> RunLength:
    task = inputs.task
    validation = measure_validation(state, task, inputs.held_out_loader, MEASURING_SECONDS)
    enough = max(MAX_STEPS, math.ceil(MAX_EPOCHS * task.num_images / task.batch_size))
    if enough * step + 5 * validation <= budget_seconds:
        return RunLength(steps=enough, time=None)
    total = max(0.1, budget_seconds)
    return RunLength(
        steps=None, time=TimeBudgetPlan(total=total, step=step, validation=validation, final_passes=2, finish=0.0)
    )


class _FoldReporter(NullReporter):
    def __init__(self, reporter: Reporter, number: int, num_folds: int) -> None:
        self.reporter, self.number, self.num_folds = reporter, number, num_folds

    def step(self, step: int, steps: int, loss: float) -> None:
        done = (self.number + step / steps) / self.num_folds
        self.reporter.progress("checking the labels, in percent", round(100 * done), 100)
