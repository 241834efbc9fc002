"""One comparison: contenders that do the same work, timed in turn beside the machine's own limit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from megavit.bench.limit import multiplication
from megavit.bench.timing import in_turn

OURS = "megavit"
_LIMIT = "the limit"


@dataclass(frozen=True)
class Entry:
    """What one contender did.

    Attributes:
        seconds: median of its turns.
        spread: the half of its turns in the middle lie so far apart, as a share of the median.
        images_per_second: of the median.
        of_limit: multiplications a second, as a share of those of a large product of matrices at this precision;
            counted as if nothing were saved, so that saved work counts for the contender.
        megavit_is: so many times as fast as this one is `megavit`, the median of the ratios of each round.
        memory: bytes that it takes at its peak, where that was measured.
    """

    name: str
    seconds: float
    spread: float
    images_per_second: float
    of_limit: float
    megavit_is: float
    memory: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Case:
    """A comparison's title and its entries, the fastest first."""

    title: str
    entries: tuple[Entry, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"title": self.title, "entries": [entry.to_dict() for entry in self.entries]}


def measure(
    title: str,
    contenders: Mapping[str, Callable[[], object]],
    *,
    images: int,
    flops: int,
    dtype: torch.dtype,
    device: torch.device,
    seconds: float,
    memory: Mapping[str, int] | None = None,
) -> Case:
    """Time contenders, `OURS` among them, and the limit in the same rounds.

    Args:
        images: of one turn.
        flops: of one turn, by the formula of the model.
        seconds: for all rounds together.
        memory: bytes of each at its peak, where measured.
    """
    product, product_flops = multiplication(device, dtype)
    timings = in_turn({**contenders, _LIMIT: product}, seconds, device)
    limit = product_flops / timings.pop(_LIMIT).median
    ours = timings[OURS].seconds
    entries = [
        Entry(
            name,
            timing.median,
            timing.spread,
            images / timing.median,
            flops / timing.median / limit,
            float(torch.tensor([theirs / mine for theirs, mine in zip(timing.seconds, ours, strict=True)]).median()),
            (memory or {}).get(name),
        )
        for name, timing in timings.items()
    ]
    return Case(title, tuple(sorted(entries, key=lambda entry: entry.seconds)))
