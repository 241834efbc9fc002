"""Whether a GPU computes what a CPU does, and how fast it trains and predicts, in at most eight minutes.

PYTHONPATH=src python -m benchmarks.gpu --out FOLDER [--minutes 8] [--device cuda]

Nothing but PyTorch must be installed; timm is measured beside if it is. FOLDER gets gpu.json and gpu.md, which are
written anew after each part, so that what was measured survives whatever ends the run. A part that fails says so there,
and the exit code is 1. Without a GPU the sizes are tiny: a test runs it to its end on a CPU.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

import megavit
from benchmarks.gpu import correctness, speed
from benchmarks.gpu.page import render
from megavit.runtime.device import device_name

Part = tuple[str, str, Callable[[], dict[str, Any]]]

# What PyTorch, its compiler and its kernels raise.
FAILURES = (AssertionError, AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError)
LAST_START = 0.85  # share of the time after which no part begins: the longest compiles for about a minute


def make_parts(device: torch.device) -> Iterator[Part]:
    """Yield the heading, the name and the function of each part, the most important first."""
    checks = {
        "losses": correctness.compare_losses,
        "images of different sizes": correctness.compare_packed,
        "resumed": correctness.compare_resumed,
        "a group of one process": correctness.compare_group,
    }
    for name, check in checks.items():
        yield "correctness", name, partial(check, device)
    yield "limits", "products", partial(speed.measure_products, device)
    sizes = speed.sizes(device)
    first, *others = speed.training_modes(device)
    for size in sizes:
        yield "training", f"{size.name}, {first}", partial(speed.measure_training, size, first, device)
    for mode in speed.inference_modes(device):
        for size in sizes[:2]:
            yield "inference", f"{size.name}, {mode}", partial(speed.measure_inference, size, mode, device)
    yield "input", "batches from main memory", partial(speed.measure_input, device)
    for mode in others:
        for size in sizes:
            yield "training", f"{size.name}, {mode}", partial(speed.measure_training, size, mode, device)


def describe(device: torch.device) -> dict[str, str]:
    versions = {"megavit": megavit.__version__, "torch": torch.__version__, "Python": platform.python_version()}
    facts = {"device": device_name(device), "kind": device.type, "date": time.strftime("%Y-%m-%d")} | versions
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        facts |= {"CUDA": str(torch.version.cuda), "capability": f"{major}.{minor}"}
    return facts


def run_parts(device: torch.device, minutes: float, save: Callable[[dict[str, Any]], None]) -> bool:
    """Run the parts that fit into the time, save the figures after each, and return whether all are as they must be."""
    began = time.monotonic()
    figures: dict[str, Any] = {"about": describe(device), "parts": []}
    for heading, name, part in make_parts(device):
        started = time.monotonic()
        if started - began > minutes * 60 * LAST_START:
            result: dict[str, Any] = {"skipped": "no time was left"}
        else:
            try:
                result = part()
            except FAILURES as error:  # a part must not cost the others
                result = {"ok": False, "error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
            result["seconds"] = time.monotonic() - started
        figures["parts"].append({"heading": heading, "name": name} | result)
        figures["about"]["seconds"] = f"{time.monotonic() - began:.0f}"
        save(figures)
    return all(part.get("ok", True) for part in figures["parts"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    def save(figures: dict[str, Any]) -> None:
        (arguments.out / "gpu.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        (arguments.out / "gpu.md").write_text(render(figures), encoding="utf-8")

    is_right = run_parts(torch.device(arguments.device), arguments.minutes, save)
    sys.stdout.write((arguments.out / "gpu.md").read_text(encoding="utf-8"))
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
