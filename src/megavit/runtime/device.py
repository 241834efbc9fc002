"""Select the device to run on, and tell what PyTorch can do there."""

import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from megavit.config.checks import check_device
from megavit.errors import ConfigError
from megavit.runtime.memory import main_memory
from megavit.runtime.processors import limit_threads


@dataclass(frozen=True)
class DeviceKind:
    """What PyTorch can do on one kind of device.

    Attributes:
        name: returns a readable name, such as "NVIDIA H100".
        memory: returns the total memory in bytes.
        bfloat16: returns whether matrices are multiplied in bfloat16 without emulation.
        float64: whether there are float64 tensors; without them the CPU computes in float64.
        copies_ahead: whether copies from the main memory may go on while Python continues, if it is pinned.
        compiles: whether `torch.compile` has a finished backend.
        collectives: backend of torch.distributed; None if several processes must compute on the CPU.
    """

    name: Callable[[torch.device], str]
    memory: Callable[[torch.device], int]
    bfloat16: Callable[[torch.device], bool]
    float64: bool
    copies_ahead: bool
    compiles: bool
    collectives: str | None


KINDS = {
    "cpu": DeviceKind(
        name=lambda _: f"{_processor()}, {torch.get_num_threads()} threads",
        memory=lambda _: main_memory(),
        bfloat16=lambda _: torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported(),
        float64=True,
        copies_ahead=False,
        compiles=True,
        collectives="gloo",
    ),
    "cuda": DeviceKind(
        name=lambda device: torch.cuda.get_device_name(device),
        memory=lambda device: torch.cuda.mem_get_info(device)[1],
        bfloat16=lambda _: torch.cuda.is_bf16_supported(including_emulation=False),
        float64=True,
        copies_ahead=True,
        compiles=True,
        collectives="nccl",
    ),
    "mps": DeviceKind(
        name=lambda _: "Apple GPU",
        memory=lambda _: torch.mps.recommended_max_memory(),
        bfloat16=lambda _: torch.backends.mps.is_macos_or_newer(14, 0),
        float64=False,
        copies_ahead=False,  # it would read memory that is freed already: PyTorch's issues 139550 and 189690
        compiles=False,
        collectives=None,
    ),
    "xpu": DeviceKind(
        name=lambda device: torch.xpu.get_device_name(device),
        memory=lambda device: torch.xpu.mem_get_info(device)[1],
        bfloat16=lambda _: torch.xpu.is_bf16_supported(including_emulation=False),
        float64=False,  # not on Arc
        copies_ahead=False,
        compiles=True,
        collectives="xccl",
    ),
}
"""The kinds of devices that megavit knows."""

# Peak TFLOP/s of dense matrix products of the SXM modules in float32 and bfloat16, from data sheets, without sparsity.
PEAK_TFLOPS = {"a100": (19.5, 312.0), "h100": (67.0, 989.0), "h200": (67.0, 989.0), "b200": (80.0, 2250.0)}


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Return the peak FLOP/s of a device in float32 or bfloat16; None for a CPU and for GPUs not in the table."""
    if device.type != "cuda":
        return None
    words = torch.cuda.get_device_name(device).lower().split()
    if "pcie" in words or "nvl" in words:  # slower
        return None
    found = [tflops for name, tflops in PEAK_TFLOPS.items() if any(word.startswith(name) for word in words)]
    return found[0][precision == "bfloat16"] * 1e12 if found else None


def pick_device(name: str) -> torch.device:
    """Return the device called `name` ("auto": the GPU or else the CPU), or raise ConfigError if there is none.

    If it is the CPU, PyTorch's threads are reduced to the processors that this process may use.
    """
    check_device("device", name)
    there_is = torch.accelerator.current_accelerator(check_available=True)
    accelerator = "cpu" if there_is is None or there_is.type not in KINDS else there_is.type
    kind, _, index = (accelerator if name == "auto" else name).partition(":")
    count = torch.accelerator.device_count() if kind == accelerator else 0
    # Checked before torch, which takes device numbers modulo 256.
    if kind != "cpu" and int(index or 0) >= count:
        seen = "no GPU" if accelerator == "cpu" else f"{torch.accelerator.device_count()} of {accelerator}"
        raise ConfigError(f"device {name} does not exist: torch sees {seen}; try auto or cpu")
    if kind == "cpu":
        limit_threads()
    return torch.device(f"{kind}:{index}" if index else kind)


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 matrices without emulation; false for "meta"."""
    return device.type in KINDS and KINDS[device.type].bfloat16(device)


def has_float64(device: torch.device) -> bool:
    """Return whether the device has float64 tensors; devices without data, such as "meta", have them."""
    return device.type not in KINDS or KINDS[device.type].float64


def copies_ahead(device: torch.device) -> bool:
    """Return the `non_blocking` of copies from the main memory to the device."""
    return device.type in KINDS and KINDS[device.type].copies_ahead


def synchronize(device: torch.device) -> None:
    """Wait until the device has computed all that it was asked for, so that a clock counts it; a CPU always has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def pins_memory() -> bool:
    """Return whether this machine's GPU copies faster from pinned memory."""
    device = torch.accelerator.current_accelerator(check_available=True)
    return device is not None and copies_ahead(device)


def total_memory(device: torch.device) -> int:
    """Return the total memory of the device in bytes; a container's limit counts for the CPU."""
    return KINDS[device.type].memory(device)


def device_name(device: torch.device) -> str:
    """Return a readable name of the device, such as "NVIDIA H100" or the CPU's model."""
    return KINDS[device.type].name(device)


def _processor() -> str:
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names[0] if names else "") or platform.processor() or platform.machine()
