"""oneDNN's float32 products against PyTorch's own on this CPU, interleaved: why `megavit.model.linear` has them.

    python -m benchmarks.speed.linear_on_cpu [PRESET ...]

For each preset (default: nano, S) in float32, the median milliseconds of a training step and of a forward pass by
`nn.Linear` and by oneDNN, and their ratio. To stand in for a processor without AVX-512, limit both:
ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2.
"""

import sys
from functools import partial
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from megavit.bench.timing import time_interleaved
from megavit.bench.training import make_step
from megavit.config.presets import preset
from megavit.model import linear
from megavit.model.linear import Linear
from megavit.model.vit import MegaVit

BATCH = {"nano": 128}
DEFAULT_BATCH, SECONDS = 16, 30.0


def main(names: list[str]) -> None:
    table = Table("preset", "batch", "what", "nn.Linear, ms", "oneDNN, ms", "ratio")
    for name in names:
        config, batch = preset(name), BATCH.get(name, DEFAULT_BATCH)
        images = torch.randn(batch, config.channels, *config.image_hw)
        labels = torch.arange(batch)
        ours, theirs = (MegaVit.from_config(config) for _ in range(2))
        for module in theirs.modules():
            if isinstance(module, Linear):
                module.__class__ = nn.Linear  # pyrefly: ignore[bad-argument-type] - of the same attributes
        steps = {key: make_step(model, images, labels, torch.float32) for key, model in _named(theirs, ours)}
        with patch.object(linear, "is_onednn_faster", lambda: True):
            _add_row(table, (name, batch, "training step"), steps)
            with torch.inference_mode():
                passes = {key: partial(model.eval(), images) for key, model in _named(theirs, ours)}
                _add_row(table, (name, batch, "forward pass"), passes)
    Console().print(table)


def _named(theirs: MegaVit, ours: MegaVit) -> list[tuple[str, MegaVit]]:
    return [("theirs", theirs), ("ours", ours)]


def _add_row(table: Table, labels: tuple[object, ...], contenders: dict) -> None:
    timings = time_interleaved(contenders, SECONDS, torch.device("cpu"))
    ratios = [a / b for a, b in zip(timings["theirs"].seconds, timings["ours"].seconds, strict=True)]
    milliseconds = (f"{timings[key].median * 1e3:.1f}" for key in ("theirs", "ours"))
    table.add_row(*map(str, labels), *milliseconds, f"{torch.tensor(ratios).median():.2f}")


if __name__ == "__main__":
    main(sys.argv[1:] or ["nano", "S"])
