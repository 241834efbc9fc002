"""One comparison: contenders that do the same work, timed in turn beside a large product of matrices."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from megavit.bench.matmul import matmul
from megavit.bench.timing import in_turn

OURS = "megavit"
_MATMUL = "matmul"


@dataclass(frozen=True)
class Entry:
    """What one contender did.

    Attributes:
        seconds: median of its turns.
        spread: the half of its turns in the middle lie so far apart, as a share of the median.
        images_per_second: of the median.
        of_matmul: FLOPs a second as a share of those of one large product of matrices in PyTorch, in the same
            dtype; above 1 where other libraries multiply faster or work is saved, as FLOPs are counted by the formula
            of the model. None where PyTorch has no such product.
        megavit_is: so many times as fast as this one is `megavit`, the median of the ratios of each round.
        memory: bytes that it takes at its peak, where that was measured.
    """

    name: str
    seconds: float
    spread: float
    images_per_second: float
    of_matmul: float | None
    megavit_is: float
    memory: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        entries: the fastest first; none where the machine lacks what the comparison needs.
        note: a sentence on the result, such as what is missing; "" for none.
    """

    title: str
    entries: tuple[Entry, ...] = ()
    note: str = ""

    def seconds_of(self, name: str) -> float:
        """Return the median seconds of the contender called `name`."""
        return next(entry.seconds for entry in self.entries if entry.name == name)

    def to_dict(self) -> dict[str, Any]:
        found = {"title": self.title, "entries": [entry.to_dict() for entry in self.entries]}
        return found | ({"note": self.note} if self.note else {})


def measure(
    title: str,
    contenders: Mapping[str, Callable[[], object]],
    *,
    images: int,
    flops: int,
    dtype: torch.dtype | None,
    device: torch.device,
    seconds: float,
    memory: Mapping[str, int] | None = None,
) -> Case:
    """Time contenders, `OURS` among them, in the same rounds as a large product of matrices in `dtype`.

    Args:
        images: of one turn.
        flops: of one turn, by the formula of the model.
        dtype: None: without that product.
        seconds: for all rounds together.
        memory: bytes of each at its peak, where measured.
    """
    product, product_flops = matmul(device, dtype) if dtype else (None, 0)
    timings = in_turn({**contenders, **({_MATMUL: product} if product else {})}, seconds, device)
    matmul_rate = product_flops / timings.pop(_MATMUL).median if product else None
    ours = timings[OURS].seconds
    entries = [
        Entry(
            name,
            timing.median,
            timing.spread,
            images / timing.median,
            flops / timing.median / matmul_rate if matmul_rate else None,
            float(torch.tensor([theirs / mine for theirs, mine in zip(timing.seconds, ours, strict=True)]).median()),
            (memory or {}).get(name),
        )
        for name, timing in timings.items()
    ]
    return Case(title, tuple(sorted(entries, key=lambda entry: entry.seconds)))
