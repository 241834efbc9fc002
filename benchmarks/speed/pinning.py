"""When the inference engine's threads should be pinned to processors, which they are only if they need all of them.

    python -m benchmarks.speed.pinning [MODEL ...]

For each model (default: nano, S and example, as in `megavit bench`) in float32, pinned or not: images per second of two
processes that compute single images in one thread each, together; and median milliseconds of batches after a pause, in
one process that uses all processors.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table

from megavit.bench.run import get_config
from megavit.bench.timing import time_interleaved
from megavit.config.preprocessing import Preprocessing
from megavit.engine import openvino
from megavit.model.vit import MegaVit

PROCESSES, ROUNDS, SECONDS = 2, 3, 3.0
BATCHES = (1, 16)
CHILD = "--child"
Run = Callable[[int], object]


def main(names: list[str]) -> None:
    pinned = ("pinned", "not pinned")
    table = Table("model", "what", *pinned)
    for name in names:
        # In turns, as the machine's speed changes.
        rates = [[_measure_processes(name, is_pinned) for is_pinned in (True, False)] for _ in range(ROUNDS)]
        medians = (f"{torch.tensor(column).median():.1f}" for column in zip(*rates, strict=True))
        table.add_row(name, f"{PROCESSES} processes, images per second", *medians)
        engines = [_make_engine(name, is_pinned) for is_pinned in (True, False)]
        for batch in BATCHES:
            runs = {way: partial(engine, batch) for way, engine in zip(pinned, engines, strict=True)}
            timings = time_interleaved(runs, SECONDS * ROUNDS, torch.device("cpu"))
            table.add_row(name, f"{batch} at once, ms", *(f"{timings[way].median * 1e3:.2f}" for way in pinned))
    Console().print(table)


def _make_engine(name: str, is_pinned: bool) -> Run:
    """Return a function that runs the model on a batch of that size."""
    config = get_config(name)
    height, width = config.image_hw
    preprocessing = Preprocessing(height=height, width=width, channels=config.channels)
    engine = openvino.OpenVino(MegaVit.from_config(config).eval(), preprocessing, "float32")
    compile_for_cpu = openvino.compile_for_cpu
    batches = {
        size: torch.randint(0, 256, (size, config.channels, height, width), dtype=torch.uint8) for size in BATCHES
    }
    with patch.object(
        openvino,
        "compile_for_cpu",
        lambda graph, settings: compile_for_cpu(graph, settings | {"ENABLE_CPU_PINNING": is_pinned}),
    ):
        for batch in batches.values():
            engine(batch)
    return lambda size: engine(batches[size])


def _measure_processes(name: str, is_pinned: bool) -> float:
    """Return the images per second of all processes, which begin together."""
    command = [sys.executable, "-m", "benchmarks.speed.pinning", CHILD, name, str(is_pinned)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
    outputs: list[str] = []
    for child in children:
        assert child.stdin is not None
        child.stdin.write("begin\n")
        child.stdin.flush()
    for child in children:
        outputs.append(child.communicate()[0])
    return sum(map(float, outputs))


def _measure_one(name: str, is_pinned: bool) -> None:
    torch.set_num_threads(1)
    run, count = _make_engine(name, is_pinned), 0
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    started = time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        run(1)
        count += 1
    sys.stdout.write(f"{count / SECONDS}\n")


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        _measure_one(sys.argv[2], sys.argv[3] == "True")
    else:
        main(sys.argv[1:] or ["nano", "S", "example"])
