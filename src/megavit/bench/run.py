"""Which comparisons `megavit bench` makes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import torch

from megavit.bench.case import OURS, Case
from megavit.bench.inference import inference
from megavit.bench.training import training
from megavit.config.presets import preset
from megavit.config.vit import PLAIN_VIT, ViTConfig
from megavit.engine.engine import Precision
from megavit.runtime.device import device_name, has_bfloat16

# The configuration of MegaVit's documentation, in the design of the peers, so that all do the same work.
EXAMPLE = "example"
INFERENCE_BATCHES, TRAINING_BATCHES = (1, 16), (16, 64)
SECONDS, QUICK_SECONDS = 12.0, 3.0
NO_BFLOAT16 = "not on this machine, which has no instructions for bfloat16"

Say = Callable[[str], None]


def config_of(name: str) -> ViTConfig:
    """The sizes of a preset by its name, or of the documentation's example.

    Raises:
        ConfigError: for any other name.
    """
    if name != EXAMPLE:
        return preset(name)
    return ViTConfig(
        image_size=256, patch_size=32, num_classes=1000, dim=512, depth=6, heads=8, mlp_dim=1024, design=PLAIN_VIT
    )


def cases(models: Sequence[str], device: torch.device, quick: bool, say: Say) -> Iterator[Case]:
    """Each comparison as it is done; with `quick` the short ones alone.

    Args:
        say: is told what comes next.
    """
    configs = {name: config_of(name) for name in models}
    seconds = QUICK_SECONDS if quick else SECONDS
    precisions: list[Precision] = ["float32", "bfloat16"]
    if device.type == "cpu" and find_spec("openvino") and not quick:
        precisions.append("int8")
    for name, config in configs.items():
        for batch in INFERENCE_BATCHES[:1] if quick else INFERENCE_BATCHES:
            measured: dict[Precision, Case] = {}
            for precision in precisions:
                if precision == "bfloat16" and not has_bfloat16(device):
                    yield Case(f"{name}, batch {batch}, {precision}", note=NO_BFLOAT16)
                    continue
                say(f"{name}: inference, batch {batch}, {precision}")
                measured[precision] = inference(name, config, batch, precision, device, seconds, quick)
                yield replace(measured[precision], note=slower(measured[precision], measured["float32"]))
        for batch in TRAINING_BATCHES[:1] if quick else TRAINING_BATCHES:
            say(f"{name}: training step, batch {batch}")
            yield training(name, config, batch, device, seconds)


def slower(case: Case, float32: Case) -> str:
    """Return a warning where megavit takes longer in the precision of `case` than in float32; "" where it does not."""
    seconds, plain = (one.seconds_of(OURS) for one in (case, float32))
    if seconds <= plain:
        return ""
    return f"slower than float32 on this machine, which took {plain * 1e3:.1f} ms: use float32 here"


def about(device: torch.device) -> dict[str, Any]:
    """The machine, and the versions of what was timed on it."""
    found = {}
    for name in (
        "megavit",
        "torch",
        "openvino",
        "nncf",
        "onnxruntime",
        "timm",
        "vit-pytorch",
        "torchvision",
        "transformers",
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"machine": device_name(device), "versions": found}
