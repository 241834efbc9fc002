"""Tell which instructions for matrix products a CPU has, and which of them a benchmark was told to do without."""

import os
from pathlib import Path

LIMITS = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS")
"""Environment variables that limit the instructions of PyTorch and OpenVINO; ONNX Runtime has no such setting."""

FEATURES = {
    "AVX2": "avx2",
    "AVX-512": "avx512f",
    "AVX-512 VNNI": "avx512_vnni",
    "AVX-512 bfloat16": "avx512_bf16",
    "AMX": "amx_tile",
    "SVE": "sve",
    "Arm bfloat16": "bf16",
    "Arm int8": "i8mm",
}
"""The instructions that matter, with their names in /proc/cpuinfo."""


def list_instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Return the names in `FEATURES` of the instructions that the CPU has; empty where Linux does not tell."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = {word for line in lines if line.startswith(("flags", "Features")) for word in line.split(":")[1].split()}
    return [name for name, feature in FEATURES.items() if feature in found]


def read_limits() -> dict[str, str]:
    """Return the environment variables among `LIMITS` that are set, with their values."""
    return {name: os.environ[name] for name in LIMITS if os.environ.get(name)}


def describe_limits(limits: dict[str, str]) -> str:
    """Return a sentence on the variables that `read_limits` found, and on what does not heed them."""
    variables = " ".join(f"{name}={value}" for name, value in limits.items())
    return f"Limited by {variables}, which ONNX Runtime does not heed: it uses all instructions"
