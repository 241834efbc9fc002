"""A tiny training run on noise."""

from pathlib import Path
from typing import Any

import torch

from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import AugmentRecipe, ModelRecipe, OptimizerRecipe, Recipe, RunRecipe
from megavit.config.target import Target
from megavit.data.dataset import LabeledImages, Sample
from megavit.distributed.context import ParallelContext
from megavit.model.vit import MegaVit
from megavit.runtime.seeds import seed_all
from megavit.training.clock import Budget, EpochBudget
from megavit.training.context import RunContext, TrainSetup
from megavit.training.loop.build import make_eval_loader, make_model_config, make_train_loader
from megavit.training.loop.loop import fit
from megavit.training.optim.loss import CrossEntropy
from megavit.training.progress import NullReporter, Reporter
from megavit.training.signals import StopRequest
from megavit.training.state import TrainState
from megavit.training.task import Batch, Task
from megavit.training.tracking.log import read_log

BATCH = 8
CLASSES = 3
STEPS = 12
NUM_IMAGES = 32
CPU = torch.device("cpu")


def make_task() -> Task:
    """Twelve steps of a tiny model on noise, with everything random switched on."""
    recipe = Recipe(
        model=ModelRecipe(preset="pico", image_size=4, patch_size=2, channels=1, dropout=0.1, drop_path=0.1),
        augment=AugmentRecipe(crop=0.5, flip=True, rotate=10, shift=0.2, color=0.2, mixup=0.2, cutmix=1.0),
        optimizer=OptimizerRecipe(learning_rate=1e-3, ema=0.3),
        run=RunRecipe(epochs=3, batch_size=BATCH, precision="float32", device="cpu", checkpoint_seconds=1e6),
    )
    return Task(
        recipe=recipe,
        preprocessing=Preprocessing(height=4, width=4, channels=1),
        target=Target(),
        num_classes=CLASSES,
        loss=CrossEntropy(0.1),
        batch_size=BATCH,
        num_images=NUM_IMAGES,
    )


def make_dataset(sides: tuple[tuple[int, int], ...] = ((4, 4),)) -> LabeledImages:
    """Images of noise in memory: 32 for training, 8 for validation, 8 for testing; of these sides in turn."""
    random, samples, memory = torch.Generator().manual_seed(0), [], {}
    for index in range(NUM_IMAGES + 16):
        split = "train" if index < NUM_IMAGES else ("val", "test")[index % 2]
        (height, width), name = sides[index % len(sides)], f"{index:02}"
        memory[name] = torch.randint(0, 256, (1, height, width), generator=random, dtype=torch.uint8)
        samples.append(Sample(name, index % CLASSES, split, height, width, 1, name))
    return LabeledImages("noise", None, ("a", "b", "c"), tuple(samples), (), "as made", memory)


def make_context(run_dir: Path, dataset: LabeledImages | None = None, reporter: Reporter | None = None) -> RunContext:
    return RunContext(run_dir, dataset or make_dataset(), CPU, ParallelContext(), reporter or NullReporter())


def fresh_state(task: Task) -> TrainState:
    seed_all(0)
    config = make_model_config(task.recipe, make_dataset())
    return TrainState.create(MegaVit.from_config(config), task.recipe.optimizer)


def make_setup(ctx: RunContext, state: TrainState, task: Task, budget: Budget | None = None) -> TrainSetup:
    val_loader = make_eval_loader(ctx, task, ctx.dataset.in_split("val"))
    return TrainSetup(state, task, make_train_loader(ctx, task), val_loader, budget or EpochBudget(STEPS))


def fit_task(ctx: RunContext, state: TrainState, task: Task, stop: StopRequest | None = None) -> None:
    """Train from where `state` stands."""
    ctx.run_dir.mkdir(exist_ok=True, parents=True)
    fit(ctx, make_setup(ctx, state, task), stop or StopRequest())


def read_validations(run_dir: Path) -> list[dict[str, Any]]:
    """The lines about validations in a run's log."""
    return [line for line in read_log(run_dir / "log.jsonl") if line["event"] == "validation"]


def batch_at(step: int) -> Batch:
    random = torch.Generator().manual_seed(step)
    images = torch.randint(0, 256, (BATCH, 1, 4, 4), generator=random, dtype=torch.uint8)
    return images, torch.randint(0, CLASSES, (BATCH,), generator=random)


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
