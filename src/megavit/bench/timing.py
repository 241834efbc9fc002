"""Time several contenders in turn, so that the machine's load affects them alike."""

import gc
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles

import torch

from megavit.runtime.device import synchronize

MIN_ROUNDS, MAX_ROUNDS = 5, 200
PAUSE_SECONDS = 0.03  # between turns, as threads of the previous contender spin for a while


@dataclass(frozen=True)
class Timing:
    """The seconds of each turn of one contender, in order."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def relative_iqr(self) -> float:
        """The interquartile range, relative to the median."""
        low, _, high = quantiles(self.seconds, n=4)
        return (high - low) / self.median


def time_interleaved(
    contenders: Mapping[str, Callable[[], object]], seconds: float, device: torch.device
) -> dict[str, Timing]:
    """Time the contenders in turn, in random order, for `seconds` and at least `MIN_ROUNDS`, after two warm-up runs."""
    names = list(contenders)
    for name in names:
        for _ in range(2):
            _timed(contenders[name], device)
    order = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        until = time.perf_counter() + seconds
        for round_ in range(MAX_ROUNDS):
            if round_ >= MIN_ROUNDS and time.perf_counter() > until:
                break
            for name in order.sample(names, len(names)):
                times[name].append(_timed(contenders[name], device))
    finally:
        gc.enable()
    return {name: Timing(tuple(seconds)) for name, seconds in times.items()}


def _timed(run: Callable[[], object], device: torch.device) -> float:
    time.sleep(PAUSE_SECONDS)
    began = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - began
