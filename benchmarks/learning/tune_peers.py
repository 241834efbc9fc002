"""Tunes each peer for a short run on Fashion-MNIST's validation images, a setting at a time.

    OMP_NUM_THREADS=1 python -m benchmarks.learning.tune_peers
    OMP_NUM_THREADS=1 python -m benchmarks.learning.tune_peers --long smaller-patch

Lower learning rates first, then patch size, augmentation, higher rates, schedule, all for two minutes. `--long` trains
what was best then for ten minutes, with one change that may pay off only there. Every run has the number of steps
that its minutes on two cores allow its patch size, found once from the processor time of a step, so that neither the
machine's load nor the one thread of this script changes the answer. The figures go to results/learning/; what is
there already is not run again.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, get_args

import torch

from benchmarks.learning.fashion import load
from benchmarks.learning.peers import Augmentation, Library, Peer, PeerRecipe
from benchmarks.learning.results import RESULTS, read_results, write_results

FILE = RESULTS / "tune_peers.json"
BUDGET_SECONDS, LONG_SECONDS = 120, 600
# Speedup of a training step of these models with two threads over one.
SPEED_UP = 1.6
RATES = (3e-4, 1e-3, 3e-3)
SMALLER_PATCH = 4
AUGMENTATIONS: tuple[Augmentation, ...] = ("flip", "ours")
# For the better peer; its best recipe takes part in the race anyway.
LONG_LIBRARY: Library = "vit-pytorch"
LONG: dict[str, dict[str, Any]] = {
    "unchanged": {},
    "smaller-patch": {"patch_size": SMALLER_PATCH},
    "augmentation": {"augmentation": "ours"},
}
REPETITIONS = 10
SEED = 0

Try = Callable[[PeerRecipe], float]


def step_seconds() -> dict[str, float]:
    """Least processor seconds of a step on one thread by patch size, all peers in turn."""
    train = load().train
    patches = (PeerRecipe(library="timm").patch_size, SMALLER_PATCH)
    peers = [
        Peer(library, PeerRecipe(library=library, patch_size=patch), train, SEED)
        for library in get_args(Library)
        for patch in patches
    ]
    seconds: dict[str, list[float]] = {str(patch): [] for patch in patches}
    for _ in range(REPETITIONS):
        for peer in peers:
            start = time.process_time()
            peer.step(0.0)
            seconds[str(peer.recipe.patch_size)].append(time.process_time() - start)
    return {patch: min(values) for patch, values in seconds.items()}


def train_once(recipe: PeerRecipe, steps: int) -> dict[str, Any]:
    """The record of one run of `steps` steps, its validation accuracy among it."""
    data = load()
    peer = Peer(recipe.library, recipe, data.train, SEED)
    start = time.process_time()
    for step in range(steps):
        peer.step(step / steps)
    seconds = (time.process_time() - start) / steps
    accuracy = peer.accuracy(data.val.images, data.val.labels)
    return {
        "recipe": asdict(recipe),
        "seed": SEED,
        "steps": steps,
        "step_seconds": round(seconds, 4),
        "val_accuracy": round(accuracy, 4),
    }


def gentler(attempt: Try, recipe: PeerRecipe) -> PeerRecipe:
    """With the best of the lower learning rates, if better: down until it gets worse."""
    return search_rates(attempt, recipe, RATES[: RATES.index(recipe.learning_rate)][::-1])


def bolder(attempt: Try, recipe: PeerRecipe) -> PeerRecipe:
    """With the best of the higher learning rates, if better: up until it gets worse."""
    return search_rates(attempt, recipe, RATES[RATES.index(recipe.learning_rate) + 1 :])


def search_rates(attempt: Try, best: PeerRecipe, rates: tuple[float, ...]) -> PeerRecipe:
    for rate in rates:
        other = replace(best, learning_rate=rate)
        if attempt(other) <= attempt(best):
            break
        best = other
    return best


def best_patch(attempt: Try, recipe: PeerRecipe) -> PeerRecipe:
    return max((recipe, replace(recipe, patch_size=SMALLER_PATCH)), key=attempt)


def best_augmentation(attempt: Try, recipe: PeerRecipe) -> PeerRecipe:
    return max((recipe, *(replace(recipe, augmentation=kind) for kind in AUGMENTATIONS)), key=attempt)


def best_schedule(attempt: Try, recipe: PeerRecipe) -> PeerRecipe:
    return max((recipe, replace(recipe, schedule="constant")), key=attempt)


def tune(attempt: Try) -> list[PeerRecipe]:
    """The best recipe of each library; both are at the same stage, so that a sweep cut short serves both alike."""
    best = [PeerRecipe(library=library) for library in get_args(Library)]
    for better in (gentler, best_patch, best_augmentation, bolder, best_schedule):
        best = [better(attempt, recipe) for recipe in best]
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", choices=list(LONG), help="one run of ten minutes, instead of the sweep")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = read_results(FILE)
    if "step_seconds" not in results:
        results |= {"budget_seconds": BUDGET_SECONDS, "speed_up": SPEED_UP, "step_seconds": step_seconds()}
        write_results(FILE, results)
    step = results["step_seconds"]

    def attempt(recipe: PeerRecipe, seconds: float = BUDGET_SECONDS) -> float:
        steps = int(seconds * SPEED_UP / step[str(recipe.patch_size)])
        for run in read_results(FILE)["runs"]:
            if run["recipe"] == asdict(recipe) and run["steps"] == steps:
                return run["val_accuracy"]
        run = train_once(recipe, steps)
        results = read_results(FILE)  # another process may have written meanwhile
        results["runs"].append(run)
        write_results(FILE, results)
        sys.stdout.write(f"{run['val_accuracy']:.2%} after {steps} steps: {recipe}\n")
        sys.stdout.flush()
        return run["val_accuracy"]

    best = tune(attempt)
    for recipe in best:
        sys.stdout.write(f"best: {attempt(recipe):.2%} {recipe}\n")
    if arguments.long:
        recipe = next(recipe for recipe in best if recipe.library == LONG_LIBRARY)
        attempt(replace(recipe, **LONG[arguments.long]), LONG_SECONDS)


if __name__ == "__main__":
    main()
