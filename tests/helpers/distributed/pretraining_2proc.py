"""What two processes pretrain for the tests, once for all of them: see tests/training/pretraining/test_processes."""

import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import megavit
from megavit.cli.app import run as run_command
from megavit.config.pretraining import PretrainingRecipe
from megavit.config.recipe import AugmentRecipe
from megavit.config.vit import ViTConfig
from megavit.distributed.context import ParallelContext
from megavit.errors import Interrupted
from megavit.model.vit import MegaVit
from megavit.runtime.process_group import get_dist_context
from megavit.runtime.seeds import seed_all
from megavit.training.loop.step import train_step
from megavit.training.pretraining.objective import LeJepa, make_projection
from megavit.training.progress import NullReporter
from megavit.training.state import TrainState
from megavit.training.task import Task
from tests.helpers.distributed.training import BATCH, make_parallel_context, make_task

STEPS, STOPPED_AT = 4, 5
OPTIONS = {"epochs": 2, "model": "pico", "image_size": 8, "device": "cpu"}
OBJECTIVE = LeJepa(PretrainingRecipe(projection=8, directions=32, regularization=0.5), is_labeled=False)
draw_views = LeJepa.draw_views


class Stopping(NullReporter):
    """A reporter that has its process told to stop in the midst of the run."""

    def step(self, step: int, steps: int, loss: float) -> None:
        if step == STOPPED_AT:
            os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True)
class Training:
    """The losses of a few steps, the gradient of the first one, and the variances of the projection's norm."""

    losses: list[float]
    gradient: Tensor
    variance: Tensor


def train(parallel: ParallelContext) -> Training:
    """Train a few steps on images that are the same however many processes share them."""
    task = make_task()
    task = replace(task, recipe=replace(task.recipe, augment=AugmentRecipe(shift=0.1, flip=True, color=0.4)))
    seed_all(0)
    sizes = {"image_size": 8, "patch_size": 2, "channels": 1, "dim": 16, "depth": 2, "heads": 4, "dim_head": 8}
    model = MegaVit.from_config(ViTConfig(**sizes, mlp_dim=32, num_classes=0))
    model.set_submodule("mlp_head", make_projection(16, OBJECTIVE.recipe.projection, parallel))
    state = TrainState.create(model, task.recipe.optimizer, parallel)
    losses, gradients = [], []
    size = BATCH // parallel.dp_world_size
    for step in range(STEPS):
        images = torch.randint(0, 256, (BATCH, 1, 8, 8), generator=torch.Generator().manual_seed(step)).byte()
        own = images[parallel.dp_rank * size : (parallel.dp_rank + 1) * size]
        losses.append(train_step(state, task, (own, torch.zeros(size)), rate=1.0, steps=STEPS, objective=OBJECTIVE))
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    return Training(losses, gradients[0], state.weights()["ema_model.mlp_head.1.variance"])


def apart(one: Tensor, other: Tensor) -> float:
    """The distance of two vectors as a share of their length."""
    return float((one - other).norm() / other.norm())


def draw_views_of_two(objective: LeJepa, images: Tensor, task: Task) -> list[Tensor]:
    """Return the views that two processes draw of their halves of these images, those of the main process last."""
    step, halves = draw_views_of_two.calls, images.chunk(2)  # pyrefly: ignore[missing-attribute]
    drawn = {}
    for rank in (1, 0):
        seed_all(task.recipe.run.seed, step, rank)
        drawn[rank] = draw_views(objective, halves[rank], task)
    draw_views_of_two.calls += 1  # pyrefly: ignore[missing-attribute]
    pairs = zip(drawn[0], drawn[1], strict=True)
    count = len(images) // 2
    return [torch.cat([part.unflatten(0, (-1, count)) for part in pair], dim=1).flatten(0, 1) for pair in pairs]


def main(out: Path) -> dict[str, Any]:
    dist = get_dist_context()
    with dist.init_process_group(torch.device("cpu"), 60):
        two = train(make_parallel_context((2, 1, 1)))
        draw_views_of_two.calls = 0  # pyrefly: ignore[missing-attribute]
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(LeJepa, "draw_views", draw_views_of_two)
            one = train(ParallelContext())
    answer: dict[str, Any] = {"losses of two": two.losses, "losses of one": one.losses}
    answer |= {"gradient": apart(two.gradient, one.gradient), "variance": apart(two.variance, one.variance)}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    command = ["pretrain", str(out / "digits"), "--out", str(out / "run"), "--precision", "float32", *flags]
    answer["code"] = run_command(command)
    settings = {"run": {"precision": "float32"}}
    stopped = out / "stopped"
    try:
        megavit.pretrain(out / "digits", out=stopped, settings=settings, reporter=Stopping(), **OPTIONS)
    except Interrupted as error:
        answer["stopped"] = str(error)
        torch.distributed.destroy_process_group()
    if dist.is_main_process:
        shutil.copytree(stopped, out / "alone")
    answer["resumed"] = megavit.resume_pretraining(stopped).to_dict()
    return answer


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    found = main(folder)
    if get_dist_context().is_main_process:
        (folder / "answer.json").write_text(json.dumps(found))
