"""Accuracy on Fashion-MNIST's test images against training time: MegaVit beside timm and vit-pytorch.

    python -m benchmarks.learning.race --minutes 2 5 10 --seeds 0 1 2

All contenders of a budget and seed train in turn, a few seconds each, in one process, so that the machine's moods
meet them alike. A contender's clock runs while it trains, and stands while it is measured. The figures are written
to results/learning/race.json at every mark; a finished run of the same recipe is not run again, an unfinished one
begins anew.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.learning.contenders import CONTENDERS, Contender, make_contender
from benchmarks.learning.fashion import load
from benchmarks.learning.results import RESULTS, read_results, write_results

FILE = RESULTS / "race.json"
MARKS = 20
SLICE_SECONDS = 3.0


class Run:
    """One contender on its own clock, and the record of what it reached."""

    def __init__(self, contender: Contender, minutes: float, seed: int) -> None:
        self.contender = contender
        self.budget = minutes * 60
        self.seconds = 0.0
        self.record: dict[str, Any] = {
            "contender": contender.name,
            "minutes": minutes,
            "seed": seed,
            "threads": torch.get_num_threads(),
            "recipe": contender.description,
            "chosen": contender.chosen,
            "steps": 0,
            "curve": [],
        }

    @property
    def mark(self) -> float:
        """Seconds at which the next measurement is due."""
        return self.budget * (len(self.record["curve"]) + 1) / MARKS

    @property
    def finished(self) -> bool:
        return is_finished(self.record)

    def train(self) -> None:
        """Train for a slice of time, or up to the next mark."""
        until = min(self.mark, self.seconds + SLICE_SECONDS)
        while self.seconds < until:
            start = time.perf_counter()
            self.contender.step(self.seconds / self.budget)
            self.seconds += time.perf_counter() - start
            self.record["steps"] += 1

    def measure(self) -> None:
        """Record the accuracy on the test images."""
        accuracy = self.contender.accuracy(*load().test)
        self.record["curve"].append([round(self.seconds, 2), round(accuracy, 4)])


def is_finished(record: dict[str, Any]) -> bool:
    return len(record["curve"]) == MARKS


def is_same_run(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two records are of the same contender, budget, seed, threads and recipe."""
    return all(a[name] == b[name] for name in ("contender", "minutes", "seed", "threads", "recipe"))


def race(file: Path, names: list[str], minutes: float, seed: int) -> None:
    """Run the contenders in turn, those left out that have a finished record in `file`."""
    results = read_results(file)
    runs = [Run(make_contender(name, seed, minutes), minutes, seed) for name in names]
    runs = [
        run for run in runs if not any(is_finished(old) and is_same_run(old, run.record) for old in results["runs"])
    ]
    key = ("contender", "minutes", "seed")
    replaced = [[run.record[name] for name in key] for run in runs]
    results["runs"] = [old for old in results["runs"] if [old[name] for name in key] not in replaced]
    results["runs"] += [run.record for run in runs]
    active = runs
    while active:
        for run in active:
            run.train()
            if run.seconds >= run.mark:
                run.measure()
                write_results(file, results)
                report(run)
        active = [run for run in active if not run.finished]


def report(run: Run) -> None:
    seconds, accuracy = run.record["curve"][-1]
    sys.stdout.write(
        f"{run.contender.name:24} {run.record['minutes']:g} min, seed {run.record['seed']}: "
        f"{accuracy:.2%} after {seconds:.0f} s, {run.record['steps']} steps\n"
    )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[2.0, 5.0, 10.0], help="budgets of training time")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=FILE, metavar="FILE", help="default: %(default)s")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for minutes in arguments.minutes:
        for seed in arguments.seeds:
            race(arguments.out, arguments.contenders, minutes, seed)


if __name__ == "__main__":
    main()
