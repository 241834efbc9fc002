"""How far the recipe's learning rate carries: other widths, without QK-norm, other batch sizes.

    OMP_NUM_THREADS=1 python -m benchmarks.rates.rate_transfer

Each run is a few hundred steps of the package's own training step on Fashion-MNIST, and ends with the loss on the
validation images. The figures go to results/learning/, the plot to docs/images/; what is there already is not run
again. One thread.
"""

import argparse
import math
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.learning.fashion import load
from benchmarks.learning.ours import Ours, build_run, with_run
from benchmarks.learning.results import RESULTS, read_results, write_results
from benchmarks.rates.transfer_plot import plot
from megavit.config.recipes import get_recipe
from megavit.config.serialization import to_dict
from megavit.config.vit import Design, ViTConfig
from megavit.errors import TrainingError
from megavit.model.vit import MegaVit
from megavit.runtime.seeds import seed_all
from megavit.runtime.storage import write_file
from megavit.training.data import TrainLoader
from megavit.training.report.figures import png
from megavit.training.state import TrainState
from megavit.training.task import Task

FILE = RESULTS / "rate_transfer.json"
PLOT = Path(__file__).parents[2] / "docs" / "images" / "rate_transfer.png"
WIDTHS, BATCH_SIZES = (64, 128, 256), (64, 128, 256)
WIDTH, BATCH_SIZE = 128, 128
DEPTH, PATCH, DIM_HEAD = 4, 7, 32
# Multiples of the recipe's rate.
FACTORS = (1 / 9, 1 / 3, 1, 3, 9, 27)
STEPS = 200


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run; `factor` is of the recipe's learning rate."""

    factor: float
    width: int = WIDTH
    qk_norm: bool = True
    batch_size: int = BATCH_SIZE


def trials() -> list[Trial]:
    widths = [
        Trial(factor=factor, width=width, qk_norm=qk_norm)
        for width in WIDTHS
        for qk_norm in (True, False)
        for factor in FACTORS
    ]
    batches = [
        Trial(factor=factor, batch_size=size) for size in BATCH_SIZES if size != BATCH_SIZE for factor in FACTORS
    ]
    return widths + batches


def make_config(trial: Trial) -> ViTConfig:
    return ViTConfig(
        image_size=28,
        patch_size=PATCH,
        num_classes=10,
        dim=trial.width,
        depth=DEPTH,
        heads=trial.width // DIM_HEAD,
        mlp_dim=4 * trial.width,
        pool="mean",
        channels=1,
        dim_head=DIM_HEAD,
        design=Design(qk_norm=trial.qk_norm),
    )


def val_loss(trial: Trial, task: Task, train_loader: TrainLoader, steps: int) -> float | None:
    """Mean negative log-likelihood of the validation images after `steps` steps; None where the run diverged."""
    task = replace(with_run(task, batch_size=trial.batch_size), batch_size=trial.batch_size)
    optimizer = task.recipe.optimizer
    optimizer = replace(optimizer, learning_rate=optimizer.learning_rate * trial.factor)
    task = replace(task, recipe=replace(task.recipe, optimizer=optimizer))
    seed_all(task.recipe.run.seed)
    run = Ours(
        "", task.recipe, TrainState.create(MegaVit.from_config(make_config(trial)), optimizer), task, train_loader
    )
    try:
        for step in range(steps):
            run.step((step + 0.5) / steps)
    except TrainingError:
        return None
    images, labels = load().val
    loss = F.cross_entropy(run.logits(images), labels).item()
    return round(loss, 4) if math.isfinite(loss) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS, help="of each run; default: %(default)s")
    parser.add_argument("--out", type=Path, default=FILE, metavar="FILE", help="default: %(default)s")
    parser.add_argument("--picture", type=Path, default=PLOT, metavar="FILE", help="default: %(default)s")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipe = get_recipe("small")
    _, task, train_loader = build_run(replace(recipe, run=replace(recipe.run, device="cpu")))
    results = read_results(arguments.out)
    common: dict[str, Any] = {"steps": arguments.steps, "recipe": to_dict(task.recipe)}
    if any(results.get(name) != value for name, value in common.items()):
        results |= common | {"runs": []}  # do not mix runs of different recipes or lengths
    for trial in trials():
        if any(Trial(**run["trial"]) == trial for run in results["runs"]):
            continue
        loss = val_loss(trial, task, train_loader, arguments.steps)
        results["runs"].append({"trial": asdict(trial), "val_loss": loss})
        write_results(arguments.out, results)
        sys.stdout.write(f"{trial}: {'diverged' if loss is None else f'{loss:.4f}'}\n")
        sys.stdout.flush()
    write_file(arguments.picture, png(plot(results["runs"], recipe.optimizer.learning_rate)))


if __name__ == "__main__":
    main()
