"""Fused against explicit attention on this CPU, interleaved: the figures behind `MAX_EAGER_TOKENS`.

    python benchmarks/speed/attention_on_cpu.py

Prints, for each dtype and shape, the median milliseconds of forward and of forward with backward, and their ratio.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from megavit.model.attention import attend_eager

SHAPES = [(128, 2, 16, 32), (128, 4, 49, 32), (128, 3, 64, 64), (64, 3, 100, 64), (32, 6, 197, 64), (1, 6, 197, 64)]
REPETITIONS = 15


def medians(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median milliseconds of each call, all of them in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repetition in range(REPETITIONS + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if repetition:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) * 1000 for name, values in seconds.items()}


def compare(dtype: torch.dtype, shape: tuple[int, ...]) -> dict[str, float]:
    """Median milliseconds of a step and of a forward pass, fused and explicit."""
    query, key, value = (torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3))
    gradient = torch.randn(shape, dtype=dtype)

    def step(attend: Callable[..., torch.Tensor]) -> None:
        torch.autograd.grad(attend(query, key, value), (query, key, value), gradient)

    @torch.no_grad()
    def forward(attend: Callable[..., torch.Tensor]) -> None:
        attend(query, key, value)

    fused, explicit = F.scaled_dot_product_attention, attend_eager
    return medians(
        {
            "step fused": partial(step, fused),
            "step explicit": partial(step, explicit),
            "forward fused": partial(forward, fused),
            "forward explicit": partial(forward, explicit),
        }
    )


def main() -> None:
    table = Table("dtype", "batch, heads, tokens, dim_head", "what", "fused ms", "explicit ms", "ratio")
    for dtype in (torch.float32, torch.bfloat16):
        for shape in SHAPES:
            found = compare(dtype, shape)
            for mode in ("step", "forward"):
                a, b = found[f"{mode} fused"], found[f"{mode} explicit"]
                name = str(dtype).removeprefix("torch.")
                table.add_row(name, str(shape), mode, f"{a:.2f}", f"{b:.2f}", f"{a / b:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
