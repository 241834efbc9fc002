"""A tiny training run on noise, for the tests beside it."""

import torch

from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import AugmentRecipe, ModelRecipe, OptimizerRecipe, Recipe, RunRecipe
from megavit.config.target import Target
from megavit.model.vit import MegaVit
from megavit.runtime.seeds import seed_all
from megavit.train.loop.loop import Task
from megavit.train.optim.loss import CrossEntropy
from megavit.train.setup.resolve import model_config
from megavit.train.state import TrainState

BATCH = 8
CLASSES = 3
STEPS = 12


def make_task() -> Task:
    """Twelve steps of a tiny model on noise, with everything random switched on."""
    recipe = Recipe(
        model=ModelRecipe(preset="pico", image_size=4, patch_size=2, channels=1, dropout=0.1, drop_path=0.1),
        augment=AugmentRecipe(crop=0.5, flip=True, rotate=10, shift=0.2, color=0.2, mixup=0.2, cutmix=1.0),
        optimizer=OptimizerRecipe(learning_rate=1e-3, ema=0.3),
        run=RunRecipe(epochs=3, batch_size=BATCH, precision="float32", device="cpu", checkpoint_seconds=1e6),
    )
    size = Preprocessing(height=4, width=4, channels=1)
    return Task(
        recipe=recipe,
        preprocessing=size,
        target=Target(),
        num_classes=CLASSES,
        loss=CrossEntropy(0.1),
        batch_size=BATCH,
        images=32,
    )


def fresh_state(task: Task) -> TrainState:
    seed_all(0)
    return TrainState.create(MegaVit.from_config(model_config(task.recipe, CLASSES)), task.recipe.optimizer)


def batch_at(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(step)
    images = torch.randint(0, 256, (BATCH, 1, 4, 4), generator=random, dtype=torch.uint8)
    return images, torch.randint(0, CLASSES, (BATCH,), generator=random)


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
