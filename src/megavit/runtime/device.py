"""Select the device to run on, and describe it."""

import platform
from pathlib import Path

import torch

from megavit.config.checks import check_device
from megavit.errors import ConfigError

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
    """Return the device called `name` ("auto": the GPU or else the CPU), or raise ConfigError if there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_device("device", name)
    # Checked before torch, which takes device numbers modulo 256.
    if name != "cpu" and int(name.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name} does not exist: torch sees {torch.cuda.device_count()} CUDA devices; try cpu")
    return torch.device(name)


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 matrices without emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def device_name(device: torch.device) -> str:
    """Return a readable name of the device, such as "NVIDIA H100" or the CPU's model."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names[0] if names else "") or platform.processor() or platform.machine()
