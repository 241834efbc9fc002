"""What an extended run of demo:digits is worth beside one that was as long from the start, on the test images.

    OMP_NUM_THREADS=1 python -m benchmarks.learning.extend --epochs 8 --seeds 0 1 2

Each run of so many epochs is extended by as many more: with the learning rate rising to its peak, to half and to a
quarter of it, and with and without the cheaper steps early in a run, which extensions have not.
"""

import argparse
import copy
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from megavit.config.recipes import get_recipe
from megavit.config.serialization import merge
from megavit.data.load import load_data
from megavit.distributed.context import ParallelContext
from megavit.training.checkpoint.checkpoint import load_checkpoint
from megavit.training.clock import RunLength
from megavit.training.context import RunContext, TrainSetup
from megavit.training.loop import loop
from megavit.training.loop.build import build_training, make_eval_loader, make_train_loader
from megavit.training.loop.recovery import fit_with_recovery
from megavit.training.loop.validation import validate
from megavit.training.progress import NullReporter
from megavit.training.state import TrainState
from megavit.training.task import Task

PEAKS = (1.0, 0.5, 0.25)


def build(folder: Path, epochs: int, seed: int) -> tuple[RunContext, TrainState, Task]:
    settings = {"run": {"epochs": epochs, "seed": seed, "device": "cpu", "checkpoint_seconds": 1e6}}
    recipe = merge(get_recipe("demo"), settings, "the recipe")
    images = load_data("demo:digits", recipe.data, required_splits=("val", "test"))
    folder.mkdir(exist_ok=True)
    ctx = RunContext(folder, images, torch.device("cpu"), ParallelContext(), NullReporter())
    return ctx, *build_training(ctx, recipe)


def train(ctx: RunContext, state: TrainState, task: Task, epochs: int) -> float:
    """Train for so many epochs more, and return the accuracy of the best weights on the test images."""
    length = RunLength(steps=task.steps_in(epochs), time=None, first_step=state.step)
    val_loader = make_eval_loader(ctx, task, ctx.dataset.in_split("val"))
    setup = TrainSetup(state, task, make_train_loader(ctx, task), val_loader, length.make_budget())
    fit_with_recovery(ctx, setup)
    model = copy.deepcopy(state.ema_model)
    model.load_state_dict(state.best)
    return validate(model, replace(setup, val_loader=make_eval_loader(ctx, task, ctx.dataset.in_split("test"))))[1]


def measure(folder: Path, epochs: int, seed: int) -> dict[str, float]:
    found = {}
    for name, count in (("as long from the start", 2 * epochs), ("not extended", epochs)):
        ctx, state, task = build(folder / name, count, seed)
        found[name] = train(ctx, state, task, count)
    for peak in PEAKS:
        for early in (False, True):
            name = f"extended at {peak:.0%} of the peak{', with cheaper steps' if early else ''}"
            shutil.copytree(folder / "not extended", folder / name)
            ctx, state, task = build(folder / name, epochs, seed)
            load_checkpoint(folder / name / "checkpoints", state)
            state.extend()
            if early:
                state.is_early = lambda schedule, state=state: state.progress < schedule.early
            loop.EXTENSION_PEAK = peak
            found[name] = train(ctx, state, task, epochs)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        with TemporaryDirectory() as folder:
            for name, accuracy in measure(Path(folder), arguments.epochs, seed).items():
                sys.stdout.write(f"seed {seed}  {accuracy:6.1%}  {name}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
