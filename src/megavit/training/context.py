"""Data classes of a training run: the user's request, the run's environment, and the training loop's inputs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from megavit.data.dataset import LabeledImages
from megavit.data.unlabeled import UnlabeledImages
from megavit.distributed.context import ParallelContext
from megavit.runtime.process_group import DistContext
from megavit.training.clock import Budget, Clock
from megavit.training.data import TrainLoader
from megavit.training.history import MetricName, Validation
from megavit.training.progress import Reporter
from megavit.training.state import TrainState
from megavit.training.task import Batch, Task
from megavit.weights.pretrained.pretrained import PretrainedModel


@dataclass(frozen=True)
class TrainRequest:
    """A user's training request.

    Attributes:
        source: path or name of the data, valid in any working directory.
        recipe: name in `megavit.config.recipes.RECIPES`, or "auto" to choose by the images.
        overrides: settings, nested as in `Recipe`, that replace the recipe's.
        pretrained: pretrained weights; None for new initialization.
    """

    source: str
    recipe: str
    overrides: dict[str, Any]
    pretrained: PretrainedModel | None = None


@dataclass(frozen=True)
class RunContext:
    """The environment of a run: output folder, images, device, processes, reporter, and clock.

    `check_tracker` is called at each validation, and says if the experiment tracker has failed; `write_report` says
    whether the run ends with a report. `unlabeled` are the images that may get pseudo-labels, if any.
    """

    run_dir: Path
    dataset: LabeledImages
    device: torch.device
    parallel: ParallelContext
    reporter: Reporter
    clock: Clock = field(default_factory=Clock)
    check_tracker: Callable[[], None] = lambda: None
    write_report: bool = True
    unlabeled: UnlabeledImages | None = None

    @property
    def dist(self) -> DistContext:
        return self.parallel.dist


class Objective(Protocol):
    """What a model is trained for, in place of the labels of its images."""

    @property
    def metric(self) -> MetricName:
        """Metric of a validation; higher is better, at most 1."""
        ...

    def accumulate_gradient(self, state: TrainState, task: Task, batch: Batch) -> list[Tensor]:
        """Accumulate the gradient of the loss of a batch, and return the parts () of which that loss is the sum."""
        ...

    def validate(self, model: nn.Module, setup: "TrainSetup") -> Validation:
        """Return the loss and the metric of `model` on the validation images."""
        ...


@dataclass(frozen=True)
class TrainSetup:
    """The inputs of the training loop: state, task, data loaders, budget, and objective, None for the labels."""

    state: TrainState
    task: Task
    train_loader: TrainLoader
    val_loader: TrainLoader
    budget: Budget
    objective: Objective | None = None
