"""Compare contenders that do the same work, timed in turn with a large matrix product."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.bench.timing import time_interleaved

OURS = "megavit"
_MATMUL = "matmul"
MATMUL_SIDES = {"cpu": 1024, "cuda": 8192, "mps": 4096, "xpu": 8192}


@dataclass(frozen=True)
class Entry:
    """The measurements of one contender.

    Attributes:
        seconds, relative_iqr: median time of its turns, and their interquartile range relative to it.
        matmul_share: FLOP/s, by the model's formula, relative to a large matrix product in PyTorch in the same dtype;
            above 1 if the contender multiplies faster or saves work; None if PyTorch has no such product.
        megavit_speedup: median over the rounds of this contender's time divided by that of `megavit`.
        memory: peak memory in bytes; None if not measured.
    """

    name: str
    seconds: float
    relative_iqr: float
    images_per_second: float
    matmul_share: float | None
    megavit_speedup: float
    memory: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Case:
    """A comparison, whose entries are sorted by time, and empty if the machine cannot run it."""

    title: str
    entries: tuple[Entry, ...] = ()
    note: str = ""

    def get_seconds(self, name: str) -> float:
        """Return the median time in seconds of the contender called `name`."""
        return next(entry.seconds for entry in self.entries if entry.name == name)

    def to_dict(self) -> dict[str, Any]:
        table = {"title": self.title, "entries": [entry.to_dict() for entry in self.entries]}
        return table | ({"note": self.note} if self.note else {})


def run_case(
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
    """Time contenders, `OURS` among them, in the same rounds as a large matrix product in `dtype`.

    Args:
        images, flops: number of images and FLOPs per turn, the latter by the model's formula.
        dtype: dtype of the matrix product; None to leave it out.
        seconds: total time of all rounds.
        memory: peak memory in bytes of each contender, if measured.
    """
    product, product_flops = make_matmul(device, dtype) if dtype else (None, 0)
    timings = time_interleaved({**contenders, **({_MATMUL: product} if product else {})}, seconds, device)
    matmul_rate = product_flops / timings.pop(_MATMUL).median if product else None
    ours = timings[OURS].seconds
    entries = [
        Entry(
            name,
            timing.median,
            timing.relative_iqr,
            images / timing.median,
            flops / timing.median / matmul_rate if matmul_rate else None,
            float(torch.tensor([theirs / mine for theirs, mine in zip(timing.seconds, ours, strict=True)]).median()),
            (memory or {}).get(name),
        )
        for name, timing in timings.items()
    ]
    return Case(title, tuple(sorted(entries, key=lambda entry: entry.seconds)))


def make_matmul(device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], object], int]:
    """Return PyTorch's fastest product of two square matrices in `dtype`, which must not be emulated, and its FLOPs."""
    side = MATMUL_SIDES[device.type]
    x, weight = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return _product(x, weight), 2 * side**3


def _product(x: Tensor, weight: Tensor) -> Callable[[], object]:
    if x.device.type == "cpu" and torch.backends.mkldnn.is_available():
        # On some processors this is twice as fast as F.linear.
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        return lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "none")
    return lambda: F.linear(x, weight)
