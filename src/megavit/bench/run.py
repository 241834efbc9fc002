"""Run the comparisons of `megavit bench`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import torch

from megavit.bench.case import OURS, Case
from megavit.bench.inference import benchmark_inference
from megavit.bench.instructions import list_instructions, read_limits
from megavit.bench.training import benchmark_training
from megavit.config.presets import preset
from megavit.config.vit import PLAIN_VIT, ViTConfig
from megavit.engine.engine import Precision
from megavit.runtime.device import device_name, has_bfloat16

EXAMPLE = "example"  # the configuration in MegaVit's documentation, with the design of the peers
LIBRARIES = [
    "megavit",
    "torch",
    "openvino",
    "nncf",
    "onnxruntime",
    "timm",
    "vit-pytorch",
    "torchvision",
    "transformers",
]
INFERENCE_BATCHES, TRAINING_BATCHES = (1, 16), (16, 64)
SECONDS, QUICK_SECONDS = 12.0, 3.0
NO_BFLOAT16 = "this machine has no instructions for bfloat16"


def get_config(name: str) -> ViTConfig:
    """Return the config of a preset or of `EXAMPLE`, or raise a ConfigError if the name is unknown."""
    if name != EXAMPLE:
        return preset(name)
    return ViTConfig(
        image_size=256, patch_size=32, num_classes=1000, dim=512, depth=6, heads=8, mlp_dim=1024, design=PLAIN_VIT
    )


def run_cases(
    models: Sequence[str], device: torch.device, *, quick: bool, announce: Callable[[str], None]
) -> Iterator[Case]:
    """Yield each comparison when it is done; `announce` is called with its description before it starts."""
    configs = {name: get_config(name) for name in models}
    seconds = QUICK_SECONDS if quick else SECONDS
    precisions: list[Precision] = ["float32", "bfloat16"]
    if device.type == "cpu" and find_spec("openvino") and not quick:
        precisions.append("int8")
    for name, config in configs.items():
        for batch in INFERENCE_BATCHES[:1] if quick else INFERENCE_BATCHES:
            measured: dict[str, Case] = {}
            for precision in precisions:
                if precision == "bfloat16" and not has_bfloat16(device):
                    yield Case(f"{name}, batch {batch}, {precision}", note=NO_BFLOAT16)
                    continue
                announce(f"{name}: inference, batch {batch}, {precision}")
                measured[precision] = benchmark_inference(
                    name, config, batch, precision, device=device, seconds=seconds, quick=quick
                )
                yield replace(measured[precision], note=warn_if_slower(precision, measured))
        for batch in TRAINING_BATCHES[:1] if quick else TRAINING_BATCHES:
            announce(f"{name}: training step, batch {batch}")
            yield benchmark_training(name, config, batch, device, seconds)


def warn_if_slower(precision: str, measured: Mapping[str, Case]) -> str:
    """Return a warning if megavit is slower in `precision` than in another one, which has more digits, else ""."""
    times = {name: case.get_seconds(OURS) for name, case in measured.items()}
    best = min(times, key=times.__getitem__)
    if times[precision] <= times[best]:
        return ""
    return f"slower than {best} on this machine, which took {times[best] * 1e3:.1f} ms: use {best} here"


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return the machine's name, a CPU's instructions and their limits, and the versions of installed libraries."""
    versions = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    about: dict[str, Any] = {"machine": device_name(device), "versions": versions}
    if device.type == "cpu":
        about["instructions"] = list_instructions()
        about |= {"limits": limits} if (limits := read_limits()) else {}
    return about
