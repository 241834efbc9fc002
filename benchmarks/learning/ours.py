"""MegaVit through the package's own parts: the recipe as the package has it, its preparation, its training step."""

import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.data.fashion_mnist_folders import CLASSES
from benchmarks.learning.fashion import load
from megavit.config.recipe import Recipe
from megavit.config.recipes import get_recipe
from megavit.config.serialization import to_dict
from megavit.data.dataset import LabeledImages, Sample
from megavit.distributed.context import ParallelContext
from megavit.predict.forward import compute_logits
from megavit.training.budget.measure import measure_step
from megavit.training.context import RunContext
from megavit.training.data import INFERENCE_BATCH_SIZE, TrainLoader
from megavit.training.loop.build import build_training, make_train_loader
from megavit.training.loop.step import train_step
from megavit.training.optim.optimizer import learning_rate
from megavit.training.progress import NullReporter
from megavit.training.setup.resolve import select_model
from megavit.training.setup.sizes import resolve_sizes
from megavit.training.state import TrainState
from megavit.training.task import Batch, Task

CPU = torch.device("cpu")
# More steps than any run takes: the sampler needs a number, but the clock ends the run.
ENDLESS = 10**9
MEASURING_SECONDS = 3.0


class Ours:
    """One run of MegaVit; its answers are those of the averaged weights, which a run ships."""

    def __init__(self, name: str, requested: Recipe, state: TrainState, task: Task, train_loader: TrainLoader) -> None:
        self.name, self.state, self.task = name, state, task
        self.batches = train_loader.train_batches(task, 0, ENDLESS)
        self.description: dict[str, Any] = to_dict(requested)
        self.chosen: dict[str, Any] = to_dict(task.recipe.model) | {"precision": task.recipe.run.precision}

    def step(self, progress: float) -> None:
        """Train on one batch, its preparation included; `progress` in [0, 1) is how much of the run is over."""
        step_at(progress, self.state, self.task, next(self.batches))

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Share of the images that are classified rightly."""
        return (self.logits(images).argmax(dim=1) == labels).float().mean().item()

    def logits(self, images: Tensor) -> Tensor:
        """(N, 10) for uint8 (N, 1, 28, 28)."""
        batches = images.split(INFERENCE_BATCH_SIZE)
        return torch.cat(list(compute_logits(self.state.ema_model, batches, self.task.preprocessing, self.task.dtype)))


def step_at(progress: float, state: TrainState, task: Task, batch: Batch) -> float:
    """One step of the package when `progress` in [0, 1) of the run is over; the loss."""
    state.progress = progress
    expected_steps = round(state.step / progress) if progress else 1
    return train_step(state, task, batch, learning_rate(progress, 1.0, task.recipe.schedule), expected_steps)


def build_run(recipe: Recipe) -> tuple[TrainState, Task, TrainLoader]:
    """What the package prepares to train `recipe` on the training images, its automatic choices made."""
    ctx = make_context()
    state, task = build_training(ctx, resolve_sizes(recipe, ctx.dataset, CPU))
    train_loader = make_train_loader(ctx, task)
    precision, _ = measure_step(state, task, next(train_loader.train_batches(task, 0, 1)), MEASURING_SECONDS)
    return state, with_run(task, precision=precision), train_loader


def with_run(task: Task, **changes: Any) -> Task:
    """The same task with other settings in its recipe's `run`."""
    return replace(task, recipe=replace(task.recipe, run=replace(task.recipe.run, **changes)))


def megavit(name: str, seed: int, minutes: float) -> Ours:
    """A run of the recipe that the package chooses for small pictures, with the model it chooses for the minutes."""
    recipe = get_recipe("small")
    recipe = replace(recipe, run=replace(recipe.run, seed=seed, minutes=minutes, device="cpu"))
    choice = select_model(make_context(), recipe, time.monotonic() + minutes * 60, minutes * 60)
    return Ours(name, recipe, *build_run(choice.recipe))


def make_context() -> RunContext:
    """The data, for this process alone; nothing is written."""
    return RunContext(Path(), load_dataset(), CPU, ParallelContext(), NullReporter())


@cache
def load_dataset() -> LabeledImages:
    """Fashion-MNIST in the division of `fashion.load`, as the package reads a data set."""
    memory: dict[str, Tensor] = {}
    samples = []
    for split, (images, labels) in load()._asdict().items():
        for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            name = f"{split}/{index:05}"
            memory[name] = image
            channels, height, width = image.shape
            samples.append(Sample(name, label, split, height, width, channels, ""))
    division = "500 images of each class are kept for validation"
    return LabeledImages("fashion-mnist", None, tuple(CLASSES), tuple(samples), (), division, memory)
