"""Up to which learning rate training is stable: with and without QK-norm, and a plain ViT, over widths.

    OMP_NUM_THREADS=1 nice python -m benchmarks.rates.stability

Each run is a few hundred of the package's own training steps on Fashion-MNIST, without repetition: its outcome is the
mean loss of its last steps, and the largest logit within attention. It is the model that is asked: steps with wild
gradients, which training leaves out, are not left out here. The figures go to results/stability/, the plot to
docs/images/; what is there already is not run again, so that a sweep may be stopped at any time. One thread.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.learning.fashion import load
from benchmarks.learning.ours import build_run, with_run
from benchmarks.learning.results import read_results, write_results
from benchmarks.rates.stability_plot import plot, table
from megavit.config.recipe import AugmentRecipe, OptimizerKind, Recipe, ScheduleRecipe
from megavit.config.recipes import get_recipe
from megavit.config.serialization import to_dict
from megavit.config.vit import PLAIN_VIT, Design, ViTConfig
from megavit.errors import TrainingError
from megavit.model.vit import MegaVit
from megavit.runtime.seeds import seed_all
from megavit.runtime.storage import write_file
from megavit.training.data import TrainLoader
from megavit.training.loop.logit_monitor import NUM_IMAGES, compute_max_logits
from megavit.training.loop.step import train_step
from megavit.training.optim.optimizer import learning_rate
from megavit.training.report.figures import png
from megavit.training.spike_detection import SpikeDetector
from megavit.training.state import TrainState
from megavit.training.task import Task

FILE = Path(__file__).parents[1] / "results" / "stability" / "fashion.json"
PLOT = Path(__file__).parents[2] / "docs" / "images" / "stability.png"

DESIGNS = {
    "MegaVit": Design(),
    "MegaVit without QK-norm": Design(qk_norm=False),
    "plain ViT": PLAIN_VIT,
}
WIDTHS = (32, 64, 128, 256)
DEPTH, PATCH, DIM_HEAD = 4, 7, 32
# Each is twice the previous one; the recipe's is 3e-3.
RATES = tuple(round(1.5e-3 * 2**k, 4) for k in range(9))
STEPS, BATCH_SIZE = 200, 64
# Steps at the end whose mean loss is reported, and steps between two measurements of the logits.
LAST_STEPS, LOGITS_EVERY = 20, 10


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run: `design` is a name of DESIGNS."""

    design: str
    width: int
    rate: float
    optimizer: OptimizerKind = "adamw"
    depth: int = DEPTH
    seed: int = 0


def trials(depth: int, optimizers: list[OptimizerKind], widths: list[int], seeds: int) -> Iterator[Trial]:
    """One seed of everything, then the next."""
    for seed, optimizer, width, rate, design in product(range(seeds), optimizers, widths, RATES, DESIGNS):
        yield Trial(design=design, width=width, rate=rate, optimizer=optimizer, depth=depth, seed=seed)


def make_config(trial: Trial) -> ViTConfig:
    return ViTConfig(
        image_size=28,
        patch_size=PATCH,
        num_classes=10,
        dim=trial.width,
        depth=trial.depth,
        heads=trial.width // DIM_HEAD,
        mlp_dim=4 * trial.width,
        pool="mean",
        channels=1,
        dim_head=DIM_HEAD,
        design=DESIGNS[trial.design],
    )


def make_recipe() -> Recipe:
    """The package's for small pictures, without what makes its images and steps different from each other."""
    recipe = get_recipe("small")
    return replace(
        recipe,
        augment=AugmentRecipe(),
        optimizer=replace(recipe.optimizer, label_smoothing=0.0),
        schedule=ScheduleRecipe(warmup=0.1),
        run=replace(recipe.run, device="cpu", precision="float32", batch_size=BATCH_SIZE),
    )


def run_trial(trial: Trial, task: Task, train_loader: TrainLoader, steps: int) -> dict[str, Any]:
    """What came of one run; a loss of None: it ended, because its gradient was no number step after step."""
    optimizer = replace(task.recipe.optimizer, kind=trial.optimizer, learning_rate=trial.rate)
    task = with_run(replace(task, recipe=replace(task.recipe, optimizer=optimizer)), seed=trial.seed)
    seed_all(trial.seed)
    state = TrainState.create(MegaVit.from_config(make_config(trial)), optimizer)
    images = load().val.images[:NUM_IMAGES]
    losses: list[float] = []
    attention: list[float] = []
    head: list[float] = []
    started = time.perf_counter()
    try:
        for step, batch in enumerate(train_loader.train_batches(task, 0, steps)):
            state.spike_detector = SpikeDetector()  # a new detector skips no step
            rate = learning_rate((step + 0.5) / steps, 1.0, task.recipe.schedule)
            losses.append(train_step(state, task, batch, rate, steps))
            if state.step % LOGITS_EVERY == 0:
                largest = compute_max_logits(state.model, images, task.preprocessing)
                attention.append(largest.attention)
                head.append(largest.head)
    except TrainingError:
        losses.append(math.nan)
    loss = mean(losses[-LAST_STEPS:])
    return {
        "trial": asdict(trial),
        "loss": round(loss, 4) if math.isfinite(loss) else None,
        "highest_loss": _largest(losses[steps // 10 :]),
        "attention_logit": _largest(attention),
        "class_logit": _largest(head),
        "skipped": state.skipped,
        "steps": state.step,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _largest(values: list[float]) -> float | None:
    """Of those that are numbers."""
    finite = [value for value in values if math.isfinite(value)]
    return float(f"{max(finite):.4g}") if finite else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS, help="of each run; default: %(default)s")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS, metavar="D", help="default: %(default)s")
    parser.add_argument("--depth", type=int, default=DEPTH, help="layers; default: %(default)s")
    parser.add_argument("--optimizers", nargs="+", default=["adamw"], metavar="KIND", help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each kind; default: %(default)s")
    parser.add_argument("--out", type=Path, default=FILE, metavar="FILE", help="default: %(default)s")
    parser.add_argument("--picture", type=Path, default=PLOT, metavar="FILE", help="default: %(default)s")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    _, task, train_loader = build_run(make_recipe())
    results = read_results(arguments.out)
    common: dict[str, Any] = {"steps": arguments.steps, "recipe": to_dict(task.recipe)}
    if any(results.get(name) != value for name, value in common.items()):
        results |= common | {"runs": []}  # do not mix runs of different recipes or lengths
    for trial in trials(arguments.depth, arguments.optimizers, arguments.widths, arguments.seeds):
        if any(Trial(**run["trial"]) == trial for run in results["runs"]):
            continue
        results["runs"].append(run_trial(trial, task, train_loader, arguments.steps))
        write_results(arguments.out, results)
        sys.stdout.write(f"{results['runs'][-1]}\n")
        sys.stdout.flush()
    write_file(arguments.picture, png(plot(results["runs"], DEPTH)))
    for optimizer, depth, width, rates in table(results["runs"]):
        summary = ", ".join(
            f"{design} {'none' if rate is None else format(rate, 'g')}" for design, rate in rates.items()
        )
        sys.stdout.write(f"{optimizer}, {depth} layers, width {width}: {summary}\n")


if __name__ == "__main__":
    main()
