"""A tiny run whose weights break at chosen images, and after which what takes hundreds of steps takes tens of them."""

import signal
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import OptimizerRecipe, Recipe, RunRecipe
from megavit.config.target import Target
from megavit.config.vit import ViTConfig
from megavit.data.dataset import LabeledImages, Sample
from megavit.distributed.context import ParallelContext
from megavit.errors import Interrupted
from megavit.model.vit import MegaVit
from megavit.runtime.seeds import seed_all
from megavit.training import spike_detection
from megavit.training.checkpoint import checkpoint
from megavit.training.checkpoint.checkpoint import list_checkpoints, load_checkpoint
from megavit.training.clock import EpochBudget
from megavit.training.context import RunContext, TrainSetup
from megavit.training.data import TrainLoader
from megavit.training.loop import loop, recovery, step
from megavit.training.loop.recovery import fit_with_recovery
from megavit.training.optim.loss import CrossEntropy
from megavit.training.progress import NullReporter
from megavit.training.state import TrainState
from megavit.training.task import Task

STEPS, EVERY, MARGIN, PATIENCE, LEAST = 110, 20, 10, 8, 16
# The batch whose images break the weights, and where a run that met it goes back to.
BROKEN, BACK = 70, 60
COUNT, BATCH, CLASSES = 32, 8, 3
SIZES = {"image_size": 4, "patch_size": 2, "channels": 1, "dim": 8, "depth": 1, "heads": 2, "dim_head": 8, "mlp_dim": 8}


def make_dataset() -> LabeledImages:
    """Images of noise that show their class, all of them for training and for validation."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 100, (COUNT, 1, 4, 4), generator=random, dtype=torch.uint8)
    labels = torch.arange(COUNT) % CLASSES
    images[torch.arange(COUNT), 0, labels] += 150
    samples = tuple(Sample(f"{i:02}", i % CLASSES, "train", 4, 4, 1, f"{i}") for i in range(COUNT))
    memory = {f"{i:02}": image for i, image in enumerate(images)}
    return LabeledImages("noise", None, ("a", "b", "c"), samples, (), "as made", memory)


class RecordingLoader(TrainLoader):
    """Remembers the indices that were asked for, batch by batch."""

    asked: list[list[int]]

    def trained(self) -> list[list[int]]:
        """The batches that were asked for, but those of validation."""
        return [indices for indices in self.asked if len(indices) == BATCH]

    def batches(self, order):
        def recorded():
            for indices in order:
                self.asked.append(list(indices))
                yield indices

        return super().batches(recorded())


def make_loader(dataset: LabeledImages, task: Task) -> RecordingLoader:
    loader = RecordingLoader(dataset, dataset.samples, task.preprocessing, workers=0, reporter=NullReporter())
    loader.asked = []
    return loader


def shorten_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes hundreds of steps takes tens of them."""
    for module, name, value in (
        (checkpoint, "ROLLBACK_EVERY", EVERY),
        (loop, "ROLLBACK_EVERY", EVERY),
        (checkpoint, "MARGIN", MARGIN),
        (recovery, "MARGIN", MARGIN),
        (spike_detection, "PATIENCE", PATIENCE),
        (step, "PATIENCE", PATIENCE),
        (spike_detection, "MIN_STEPS", LEAST),
    ):
        monkeypatch.setattr(module, name, value)


class Breaking(NullReporter):
    """Scales the weights of a run up once it has come to certain steps, each once, and may ask it to stop."""

    def __init__(self, state: TrainState, at: dict[int, float], stop_at: int = -1) -> None:
        self.state, self.at, self.stop_at = state, dict(at), stop_at
        self.said: list[str] = []
        self.losses: list[float] = []

    def step(self, step: int, steps: int, loss: float) -> None:
        self.losses.append(loss)
        if len(self.losses) == self.stop_at:
            signal.raise_signal(signal.SIGTERM)
        # What breaks the weights are the images of that step, not its number.
        factor = self.at.get(step + self.state.dropped_batches)
        if factor is not None:
            with torch.no_grad():
                for parameter in self.state.model.parameters():
                    parameter.mul_(factor)

    def say(self, text: str) -> None:
        self.said.append(text)


def make_task(seconds: float = 1e6) -> Task:
    return Task(
        recipe=Recipe(
            optimizer=OptimizerRecipe(learning_rate=3e-3, ema=0.1, kind="adamw"),
            run=RunRecipe(batch_size=BATCH, precision="float32", device="cpu", checkpoint_seconds=seconds),
        ),
        preprocessing=Preprocessing(height=4, width=4, channels=1),
        target=Target(),
        num_classes=CLASSES,
        loss=CrossEntropy(0.1),
        batch_size=BATCH,
        num_images=COUNT,
    )


def make_state(parallel: ParallelContext | None = None) -> TrainState:
    seed_all(0)
    model = MegaVit.from_config(ViTConfig(**SIZES, num_classes=CLASSES))
    return TrainState.create(model, make_task().recipe.optimizer, parallel)


def train_spiking(
    folder: Path,
    at: dict[int, float],
    *,
    stop_at: int = -1,
    seconds: float = 1e6,
    budget: EpochBudget | None = None,
    parallel: ParallelContext | None = None,
) -> tuple[TrainState, Breaking, RecordingLoader]:
    """Begin the run in `folder`, or go on with it."""
    folder.mkdir(exist_ok=True, parents=True)
    task, state, dataset = make_task(seconds), make_state(parallel), make_dataset()
    if list_checkpoints(folder / "checkpoints"):
        load_checkpoint(folder / "checkpoints", state)
    reporter, loader = Breaking(state, at, stop_at), make_loader(dataset, task)
    ctx = RunContext(folder, dataset, torch.device("cpu"), state.parallel, reporter)
    with suppress(Interrupted):
        fit_with_recovery(ctx, TrainSetup(state, task, loader, loader, budget or EpochBudget(STEPS)))
    return state, reporter, loader
