"""Training steps in a process that keeps freed memory (`keep_freed_memory`) and in one that returns it, in turns.

    python -m benchmarks.speed.freed_memory [PRESET:BATCH ...] [--rounds 15]

Prints, for each preset and batch size (default: nano:256, S:16, S:64), the median milliseconds of a step of both, in
bfloat16 where the processor has it, and the median of the rounds' ratios.
"""

import argparse
import subprocess
import sys
import time
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from megavit.bench.training import make_step
from megavit.config.presets import preset
from megavit.model.vit import MegaVit
from megavit.runtime.device import has_bfloat16
from megavit.runtime.memory import keep_freed_memory

WARM_UP = 3


def work(name: str, batch: int, *, keep: bool) -> None:
    """Make a step for each line of standard input, and print its seconds."""
    if keep:
        keep_freed_memory()
    config = preset(name)
    dtype = torch.bfloat16 if has_bfloat16(torch.device("cpu")) else torch.float32
    images = torch.randn(batch, config.channels, *config.image_hw)
    step = make_step(MegaVit.from_config(config), images, torch.arange(batch) % config.num_classes, dtype)
    for _ in range(WARM_UP):
        step()
    for _ in sys.stdin:
        started = time.perf_counter()
        step()
        print(time.perf_counter() - started, flush=True)  # noqa: T201 - read by the other process


def measure(case: str, rounds: int) -> dict[str, list[float]]:
    processes = {
        way: subprocess.Popen(
            [sys.executable, "-m", "benchmarks.speed.freed_memory", "--work", way, case],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for way in ("keep", "return")
    }
    seconds: dict[str, list[float]] = {way: [] for way in processes}
    for _ in range(rounds):
        for way, process in processes.items():
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            seconds[way].append(float(process.stdout.readline()))
    for process in processes.values():
        process.communicate()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=["nano:256", "S:16", "S:64"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--work", choices=("keep", "return"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        name, _, batch = arguments.cases[0].partition(":")
        work(name, int(batch), keep=arguments.work == "keep")
        return
    table = Table("preset:batch", "returned, ms", "kept, ms", "ratio")
    for case in arguments.cases:
        seconds = measure(case, arguments.rounds)
        ratio = median(a / b for a, b in zip(seconds["return"], seconds["keep"], strict=True))
        medians = (f"{median(seconds[way]) * 1e3:.1f}" for way in ("return", "keep"))
        table.add_row(case, *medians, f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
