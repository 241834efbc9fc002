"""What each choice of the recipe for small pictures is worth, on Fashion-MNIST's validation images.

    OMP_NUM_THREADS=1 python -m benchmarks.learning.ablate --steps 600 --seeds 0 1

Every variant changes the recipe in one place. A variant whose step costs less or more than the recipe's gets more or
fewer of them, by the processor time of a step, measured in turn before anything is trained. The figures go to
results/learning/ablate.json; what is there already is not run again. One thread.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.learning.fashion import load
from benchmarks.learning.ours import Ours, build_run
from benchmarks.learning.results import RESULTS, add_run, is_measured
from megavit.config.recipe import Recipe
from megavit.config.recipes import get_recipe
from megavit.config.serialization import merge, to_dict

FILE = RESULTS / "ablate.json"
REPETITIONS = 7
VARIANTS: dict[str, dict[str, Any]] = {
    "the recipe": {},
    "AdamW": {"optimizer": {"kind": "adamw"}},
    "learning rate × 1/2": {"optimizer": {"learning_rate": 1.5e-3}},
    "learning rate × 2": {"optimizer": {"learning_rate": 6e-3}},
    "GELU": {"model": {"mlp": "gelu"}},
    "stem of convolutions": {"model": {"stem": "conv"}},
    "patches of 7": {"model": {"patch_size": 7}},
    "the next larger model": {"model": {"preset": "micro", "patch_size": 4}},
    "cosine": {"schedule": {"kind": "cosine"}},
    "level for half of the run": {"schedule": {"hold": 0.5}},
    "no warm-up": {"schedule": {"warmup": 0.0}},
    "all patches": {"schedule": {"early": 0.0}},
    "half of the patches left out all the time": {"schedule": {"early": 1.0}},
    "a quarter of the patches left out": {"schedule": {"patch_drop": 0.25}},
    "smaller images early": {"schedule": {"patch_drop": 0.0, "scale": 0.7}},
    "no average of the weights": {"optimizer": {"ema": 0.0}},
    "longer average of the weights": {"optimizer": {"ema": 0.1}},
    "no label smoothing": {"optimizer": {"label_smoothing": 0.0}},
    "more label smoothing": {"optimizer": {"label_smoothing": 0.1}},
    "no weight decay": {"optimizer": {"weight_decay": 0.0}},
    "variation from the first pass on": {"augment": {"after": 0}},
    "no variation": {"augment": {"shift": 0.0, "mixup": 0.0}},
    "no mixup": {"augment": {"mixup": 0.0}},
    "flip": {"augment": {"flip": True}},
    "batches of 64": {"run": {"batch_size": 64}},
    "batches of 256": {"run": {"batch_size": 256}},
}


def variant(name: str, seed: int) -> Recipe:
    recipe = merge(get_recipe("small"), VARIANTS[name], name)
    return replace(recipe, run=replace(recipe.run, seed=seed, device="cpu"))


def start_run(name: str, seed: int) -> Ours:
    recipe = variant(name, seed)
    return Ours(name, recipe, *build_run(recipe))


def measure_costs(names: list[str]) -> dict[str, float]:
    """Processor seconds of a step of each variant over those of the recipe, in turn, early and late steps alike."""
    runs = {name: start_run(name, 0) for name in dict.fromkeys(["the recipe", *names])}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPETITIONS):
        for name, run in runs.items():
            before = time.process_time()
            run.step(0.25)
            run.step(0.75)
            seconds[name].append(time.process_time() - before)
    return {name: median(seconds[name]) / median(seconds["the recipe"]) for name in names}


def train(name: str, seed: int, steps: int) -> dict[str, Any]:
    """The record of one run."""
    run = start_run(name, seed)
    for step in range(steps):
        run.step(step / steps)
    images, labels = load().val
    logits = run.logits(images)
    return {
        "steps": steps,
        "val_accuracy": round((logits.argmax(dim=1) == labels).float().mean().item(), 4),
        "val_loss": round(F.cross_entropy(logits, labels).item(), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600, help="of the recipe itself; default: %(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--out", type=Path, default=FILE, metavar="FILE", help="default: %(default)s")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    costs = measure_costs(arguments.variants)
    for seed in arguments.seeds:
        for name in arguments.variants:
            steps = round(arguments.steps / costs[name])
            about = {"variant": name, "seed": seed, "budget": arguments.steps, "recipe": to_dict(variant(name, seed))}
            if not is_measured(arguments.out, about):
                add_run(arguments.out, about | train(name, seed, steps) | {"cost": round(costs[name], 3)})


if __name__ == "__main__":
    main()
