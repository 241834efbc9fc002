"""`megavit.model.kernels` against PyTorch's own layers on this CPU, interleaved.

    python -m benchmarks.speed.kernels_on_cpu [PRESET ...]

For each preset (default: nano, S), in float32 and, where the processor has it, in bfloat16: the median milliseconds of
a training step and of a forward pass, and how many times as fast they are by the kernels. On processors that are not
AMD's the kernels for float32 are measured too, though they are not used there. To stand in for a processor without
AVX-512, limit all: ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table

from megavit.bench.timing import time_interleaved
from megavit.bench.training import make_step
from megavit.config.presets import preset
from megavit.model.kernels import linear
from megavit.model.vit import MegaVit

BATCH = {"nano": 128}
DEFAULT_BATCH, SECONDS = 16, 30.0
SWITCHES = {torch.float32: "is_onednn_faster", torch.bfloat16: "has_onednn_bfloat16"}
Run = Callable[[], object]


def main(names: list[str]) -> None:
    table = Table("preset", "batch", "dtype", "what", "PyTorch's layers, ms", "kernels, ms", "times as fast")
    for name in names:
        config, batch = preset(name), BATCH.get(name, DEFAULT_BATCH)
        images = torch.randn(batch, config.channels, *config.image_hw)
        labels = torch.arange(batch)
        for dtype, switch in SWITCHES.items():
            if dtype == torch.bfloat16 and not linear.has_onednn_bfloat16():
                continue
            models = {is_on: MegaVit.from_config(config) for is_on in (False, True)}
            steps = {is_on: make_step(model, images, labels, dtype) for is_on, model in models.items()}
            row = (name, batch, str(dtype).removeprefix("torch."))
            _add_row(table, (*row, "training step"), {is_on: _switched(switch, is_on, steps[is_on]) for is_on in steps})
            passes = {is_on: _forward(model.eval(), images, dtype) for is_on, model in models.items()}
            _add_row(table, (*row, "forward pass"), {is_on: _switched(switch, is_on, passes[is_on]) for is_on in steps})
    Console().print(table)


def _forward(model: MegaVit, images: torch.Tensor, dtype: torch.dtype) -> Run:
    def run() -> None:
        cast: AbstractContextManager = nullcontext() if dtype == torch.float32 else torch.autocast("cpu", dtype)
        with torch.no_grad(), cast:
            model(images)

    return run


def _switched(switch: str, is_on: bool, run: Run) -> Run:
    def switched() -> None:
        with patch.object(linear, switch, lambda: is_on):
            run()

    return switched


def _add_row(table: Table, labels: tuple[object, ...], contenders: dict[bool, Run]) -> None:
    named = {str(is_on): run for is_on, run in contenders.items()}
    timings = time_interleaved(named, SECONDS, torch.device("cpu"))
    theirs, ours = timings["False"], timings["True"]
    ratios = [a / b for a, b in zip(theirs.seconds, ours.seconds, strict=True)]
    milliseconds = (f"{timing.median * 1e3:.1f}" for timing in (theirs, ours))
    table.add_row(*map(str, labels), *milliseconds, f"{torch.tensor(ratios).median():.2f}")


if __name__ == "__main__":
    main(sys.argv[1:] or ["nano", "S"])
