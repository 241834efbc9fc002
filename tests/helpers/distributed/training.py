"""A tiny training run on noise that any number of processes can do, without anything random in a step."""

import math
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from megavit.config.preprocessing import Preprocessing
from megavit.config.recipe import OptimizerRecipe, ParallelRecipe, Recipe, RunRecipe
from megavit.config.target import Target
from megavit.config.vit import Design, ViTConfig
from megavit.data.dataset import LabeledImages
from megavit.distributed.context import ParallelContext
from megavit.model.vit import MegaVit
from megavit.runtime.process_group import get_dist_context
from megavit.runtime.seeds import seed_all
from megavit.training.checkpoint.checkpoint import load_checkpoint, save_checkpoint
from megavit.training.clock import Clock, TimeBudget, TimeBudgetPlan
from megavit.training.context import RunContext, TrainSetup
from megavit.training.history import EpochRecord, Validation
from megavit.training.loop import loop
from megavit.training.loop.logit_monitor import MaxLogits
from megavit.training.loop.loop import fit
from megavit.training.loop.step import train_step
from megavit.training.optim.loss import CrossEntropy
from megavit.training.optim.muon import Muon
from megavit.training.progress import NullReporter
from megavit.training.signals import StopRequest
from megavit.training.state import TrainState
from megavit.training.task import Task
from tests.helpers.fake_clock import FakeClock

STEPS, BATCH, CLASSES = 8, 8, 3
PARALLEL = Design()
SERIAL = Design(block="serial", mlp="swiglu", qkv_bias=True, positions="rope", layer_scale=0.1)
DESIGNS = {"parallel": PARALLEL, "serial": SERIAL}

Loss = Callable[[Tensor, Tensor], Tensor]


def make_task(
    kind: str = "adamw",
    loss: Loss | None = None,
    checkpointing: bool = False,
    precision: str = "float32",
    parts: int | None = None,
) -> Task:
    recipe = Recipe(
        optimizer=OptimizerRecipe(kind=kind, learning_rate=3e-3, ema=0.3),  # pyrefly: ignore[bad-argument-type]
        run=RunRecipe(
            batch_size=BATCH,
            precision=precision,  # pyrefly: ignore[bad-argument-type]
            device="cpu",
            gradient_checkpointing=checkpointing,
            gradient_accumulation=parts,
        ),
    )
    return Task(
        recipe=recipe,
        preprocessing=Preprocessing(height=8, width=8, channels=1),
        target=Target(),
        num_classes=CLASSES,
        loss=loss or CrossEntropy(),  # pyrefly: ignore[bad-argument-type]
        batch_size=BATCH,
        num_images=STEPS * BATCH,
    )


def make_parallel_context(layout: tuple[int, int, int], dtype: torch.dtype = torch.float32) -> ParallelContext:
    """The parallelism of (replicate, shard, tensor)."""
    dist, (replicate, shard, tensor) = get_dist_context(), layout
    if replicate * shard * tensor == 1:
        return ParallelContext()
    assert replicate * shard * tensor == dist.world_size
    parallel = ParallelContext(dist, ParallelRecipe(nproc=dist.world_size, fsdp=shard, tp=tensor), torch.device("cpu"))
    parallel.param_dtype = dtype
    return parallel


def make_state(task: Task, parallel: ParallelContext, design: Design = PARALLEL, *, whole: bool = True) -> TrainState:
    """The state before the first step.

    Args:
        whole: the model is, in each process, before it is divided.
    """
    sizes = {"image_size": 8, "patch_size": 2, "channels": 1, "dim": 16, "depth": 2, "heads": 4, "dim_head": 8}
    with torch.device("meta"):
        model = MegaVit.from_config(ViTConfig(**sizes, mlp_dim=32, num_classes=CLASSES, design=design))
    model.transformer.gradient_checkpointing = task.recipe.run.gradient_checkpointing
    seed_all(0)
    if whole:
        model.to_empty(device="cpu").initialize()
    state = TrainState.create(model, task.recipe.optimizer, parallel)
    if not whole:
        parallel.init_weights(state.model)
        state.init_ema()
    for optimizer in state.optimizers:
        if isinstance(optimizer, Muon):
            optimizer.dtype = torch.float32  # bfloat16 would round the last bits up to the third digit
    return state


def make_batches(state: TrainState) -> Iterator[tuple[Tensor, Tensor]]:
    """From the step of `state` on, this process's part."""
    for step in count(state.step):
        random = torch.Generator().manual_seed(step)
        images = torch.randint(0, 256, (BATCH, 1, 8, 8), generator=random, dtype=torch.uint8)
        labels = torch.randint(0, CLASSES, (BATCH,), generator=random)
        size = BATCH // state.parallel.dp_world_size
        mine = slice(state.parallel.dp_rank * size, (state.parallel.dp_rank + 1) * size)
        yield images[mine], labels[mine]


def train_steps(state: TrainState, task: Task, until: int = STEPS) -> list[float]:
    """Train up to a step; the losses."""
    own = islice(make_batches(state), max(0, until - state.step))
    return [train_step(state, task, (images, labels), rate=1.0, steps=STEPS) for images, labels in own]


class AllReduces(TorchDispatchMode):
    """Counts sums: `of_parts`, what the processes of a layer computed, and `of_all`, whole tensors."""

    of_parts, of_all = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented
        self.of_parts += func is torch.ops._c10d_functional.all_reduce.default
        self.of_all += func is torch.ops.c10d.allreduce_.default
        return func(*args, **(kwargs or {}))


def count_all_reduces(state: TrainState, task: Task) -> int:
    """Messages that sum something over all copies in one step."""
    images, labels = next(make_batches(state))
    with AllReduces() as seen:
        train_step(state, task, (images, labels), rate=0.0, steps=STEPS)
    return seen.of_all


class SlowLoader:
    """The images of `batches`, each batch of which takes `nap` seconds."""

    def __init__(self, state: TrainState, time: FakeClock, nap: float) -> None:
        self.own, self.time, self.nap = make_batches(state), time, nap

    def train_batches(self, *_: object) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.own:
            self.time.sleep(self.nap)
            yield batch


def train_on_time_budget(state: TrainState, seconds: float, nap: float, folder: Path) -> dict[str, Any]:
    """Train for so many seconds of a clock of its own, each step and validation taking `nap`; how far it came."""
    task, fake = make_task(), FakeClock()
    folder.mkdir(exist_ok=True)
    budget = TimeBudget(TimeBudgetPlan(total=seconds, step=0.01, validation=0.001, final_passes=1, finish=0.0))

    def validate(*_: object) -> Validation:
        fake.sleep(nap)
        return Validation(1.0, 0.5)

    loader: Any = SlowLoader(state, fake, nap)
    dataset = LabeledImages("noise", None, (), (), (), "")
    clock = Clock(started=0.0, now=lambda: fake.now)
    ctx = RunContext(folder, dataset, torch.device("cpu"), state.parallel, NullReporter(), clock)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(loop, "validate", validate)
        monkeypatch.setattr(loop, "LogitMonitor", lambda *_: lambda model: MaxLogits(0.0, 0.0))
        fit(ctx, TrainSetup(state, task, loader, loader, budget), StopRequest())
    validated = [record.step for record in state.history]
    return {"step": state.step, "seconds": state.seconds, "validated": validated, "own": fake.now}


def save_state(state: TrainState, folder: Path) -> None:
    state.record(EpochRecord(state.step, state.step, 1.0, 1.0, 1.0, 0.5, 1e-3))
    save_checkpoint(folder, state)


def load_state(task: Task, parallel: ParallelContext, folder: Path, design: Design = PARALLEL) -> TrainState:
    state = make_state(task, parallel, design)
    assert load_checkpoint(folder, state) == []
    return state


class PoisonedAt:
    """A loss that is no number at one call of one process, which is slow besides."""

    def __init__(self, call: int, poisoned: bool) -> None:
        self.call, self.poisoned, self.calls = call, poisoned, 0

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        if self.poisoned and self.calls % 5 == 0:
            time.sleep(0.1)
        factor = math.nan if self.poisoned and self.calls == self.call else 1.0
        return CrossEntropy()(logits, targets) * factor


class Slow:
    """A loss that takes its time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return CrossEntropy()(logits, targets)
