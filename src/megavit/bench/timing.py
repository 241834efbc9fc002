"""Seconds of several contenders that take turns, so that the machine's moods meet them alike."""

import gc
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles

import torch

LEAST_ROUNDS, MOST_ROUNDS = 5, 200
# Between turns: threads of the one before go on spinning for work for a while, and would slow the next one down.
PAUSE_SECONDS = 0.03


@dataclass(frozen=True)
class Timing:
    """Of one contender: seconds of each of its turns, in order."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def spread(self) -> float:
        """The half of its turns in the middle lie so far apart, as a share of the median."""
        low, _, high = quantiles(self.seconds, n=4)
        return (high - low) / self.median


def in_turn(contenders: Mapping[str, Callable[[], object]], seconds: float, device: torch.device) -> dict[str, Timing]:
    """Time each contender in turn until `seconds` are over; each twice beforehand, to warm up.

    Every round times all of them, in an order of its own, so that none always follows the same. At least
    `LEAST_ROUNDS` rounds.
    """
    names = list(contenders)
    for name in names:
        for _ in range(2):
            _timed(contenders[name], device)
    order = random.Random(0)
    taken: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        until = time.perf_counter() + seconds
        for round_ in range(MOST_ROUNDS):
            if round_ >= LEAST_ROUNDS and time.perf_counter() > until:
                break
            for name in order.sample(names, len(names)):
                taken[name].append(_timed(contenders[name], device))
    finally:
        gc.enable()
    return {name: Timing(tuple(times)) for name, times in taken.items()}


def _timed(run: Callable[[], object], device: torch.device) -> float:
    time.sleep(PAUSE_SECONDS)
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
