"""What a training run works with: its surroundings, what the user asked for, and what the training loop takes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from megavit.data.dataset import LabeledImages
from megavit.distributed.context import ParallelContext
from megavit.runtime.process_group import DistContext
from megavit.train.clock import Budget, Clock
from megavit.train.data import TrainLoader
from megavit.train.progress import Reporter
from megavit.train.state import TrainState
from megavit.train.task import Task
from megavit.weights.pretrained.pretrained import PretrainedModel


@dataclass(frozen=True)
class TrainRequest:
    """What the user asked to train.

    Attributes:
        source: the data, in a form that is valid in any working directory.
        recipe: a name of `megavit.config.recipes.RECIPES`, or "auto" to choose by the images.
        overrides: settings, nested as in `Recipe`, that replace the recipe's.
        pretrained: the weights to start from; None: newly initialized ones.
    """

    source: str
    recipe: str
    overrides: dict[str, Any]
    pretrained: PretrainedModel | None = None


@dataclass(frozen=True)
class RunContext:
    """The surroundings of a run.

    Attributes:
        run_dir: the folder of everything that the run writes.
        dataset: the images with their targets.
        device: of the model.
        parallel: the processes that train together.
        reporter: is told how it goes.
        clock: the time since the command began.
    """

    run_dir: Path
    dataset: LabeledImages
    device: torch.device
    parallel: ParallelContext
    reporter: Reporter
    clock: Clock = field(default_factory=Clock)

    @property
    def dist(self) -> DistContext:
        return self.parallel.dist


@dataclass(frozen=True)
class TrainSetup:
    """What the training loop trains, and on what."""

    state: TrainState
    task: Task
    train_loader: TrainLoader
    val_loader: TrainLoader
    budget: Budget
