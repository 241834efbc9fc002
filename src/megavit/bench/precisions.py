"""Time a model in each precision, as predictions are made, to tell where int8 is worth using."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from megavit.bench.timing import time_interleaved
from megavit.config.preprocessing import Preprocessing
from megavit.engine.engine import Engine, Precision
from megavit.model.vit import MegaVit
from megavit.runtime.device import has_bfloat16

BATCH_SIZES = (1, 16)
SECONDS = 1.0  # for each batch size
MIN_SPEEDUP = 1.03  # less is within the spread of such timings, and not worth the loss of digits


@dataclass(frozen=True)
class BatchSpeed:
    """Median seconds of a batch of `batch` images in int8 and every other precision of this machine, by name."""

    batch: int
    seconds: dict[str, float]

    @property
    def alternative(self) -> str:
        """The fastest precision other than int8."""
        return min((name for name in self.seconds if name != "int8"), key=self.seconds.__getitem__)

    @property
    def speedup(self) -> float:
        """How many times int8 is as fast as the alternative."""
        return self.seconds[self.alternative] / self.seconds["int8"]

    @property
    def is_faster(self) -> bool:
        """Whether int8 is faster than the alternative by more than the timings' spread."""
        return self.speedup >= MIN_SPEEDUP

    def to_dict(self) -> dict[str, Any]:
        """Return the measurements as plain JSON types."""
        return {
            "batch": self.batch,
            "seconds": self.seconds,
            "alternative": self.alternative,
            "speedup": self.speedup,
            "faster": self.is_faster,
        }


def time_precisions(
    model: MegaVit, preprocessing: Preprocessing, bounds: Sequence[float], seconds: float = SECONDS
) -> tuple[BatchSpeed, ...]:
    """Return the speed of a model on the CPU for each batch size, the precisions timed in turn.

    Args:
        model: a model on the CPU.
        preprocessing: normalization and size of its images.
        bounds: bounds of the layers' inputs, for int8.
        seconds: how long each batch size is timed; large models take longer, for a few rounds.
    """
    cpu, generator = torch.device("cpu"), torch.Generator().manual_seed(0)
    floats: list[Precision] = ["float32", *(["bfloat16"] if has_bfloat16(cpu) else [])]
    speeds = []
    for batch in BATCH_SIZES:
        size = (batch, preprocessing.channels, preprocessing.height, preprocessing.width)
        pixels = torch.randint(256, size, dtype=torch.uint8, generator=generator)
        engines = {name: Engine(model, preprocessing, name) for name in floats}
        for engine in engines.values():
            engine.choose_runtime(pixels)
        engines["int8"] = Engine(model, preprocessing, "int8", bounds)
        timings = time_interleaved({name: partial(run, pixels) for name, run in engines.items()}, seconds, cpu)
        speeds.append(BatchSpeed(batch, {name: timing.median for name, timing in timings.items()}))
    return tuple(speeds)
