"""How long a step takes, measured on a copy of the run before it starts, in each precision the device has."""

import copy
import statistics
import time
from dataclasses import replace

from megavit.config.recipe import Precision
from megavit.runtime.device import has_bfloat16
from megavit.train.loop import Batch, Task, train_step
from megavit.train.state import TrainState

REPETITIONS = 5
# Slow steps are told apart sooner: after the first repetition no new one begins past this time.
ENOUGH_SECONDS = 10.0
# Less than this share is within the noise, and float32 is the safer of two equals.
WORTH_IT = 1.1


def measure(state: TrainState, task: Task, batch: Batch, enough: float = ENOUGH_SECONDS) -> tuple[Precision, float]:
    """The faster precision for `task`, of those its recipe allows, and the median seconds of a step in it.

    Trains a copy; `state` and its random numbers are as before. Past `enough` seconds no new step begins, but
    two in each precision are done. Several processes measure together, each on its part of a batch, and the slowest
    counts; what is divided among them cannot be copied, and `state` itself is used up.
    """
    device, team = next(state.model.parameters()).device, state.team
    wanted = task.recipe.run.precision
    precisions: list[Precision] = [wanted]
    if wanted == "auto":
        (lacking,) = team.greatest(not has_bfloat16(device))
        precisions = ["float32"] if lacking else ["float32", "bfloat16"]
    trial = state if team.ranks.many else TrainState.fresh(copy.deepcopy(state.model), task.recipe.optimiser)
    tasks = {
        precision: replace(task, recipe=replace(task.recipe, run=replace(task.recipe.run, precision=precision)))
        for precision in precisions
    }
    seconds: dict[Precision, list[float]] = {precision: [] for precision in precisions}
    began = time.perf_counter()
    for repetition in range(REPETITIONS + 1):
        if repetition > 1 and team.greatest(time.perf_counter() - began)[0] > enough:
            break
        for precision, variant in tasks.items():
            start = time.perf_counter()
            train_step(trial, variant, *batch, rate=0.0, steps=1)
            if repetition:  # the first one is slower: kernels are chosen and memory is taken
                seconds[precision].append(time.perf_counter() - start)
    slowest = team.greatest(*(statistics.median(seconds[precision]) for precision in precisions))
    medians = dict(zip(precisions, slowest, strict=True))
    fastest = min(precisions, key=lambda precision: medians[precision] * (WORTH_IT if precision == "bfloat16" else 1))
    return fastest, medians[fastest]
