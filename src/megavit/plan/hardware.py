"""Specifications of GPUs, and the time that collectives take between them."""

from dataclasses import dataclass, replace
from typing import Any

from megavit.config.checks import check_integer, check_positive
from megavit.config.recipe import ResolvedPrecision
from megavit.errors import ConfigError
from megavit.plan.communication import Axis, Communication
from megavit.plan.parallel_layout import ParallelLayout
from megavit.runtime.device import PEAK_TFLOPS

GIB = 2**30

# Achieved share of a link's nominal bandwidth, typical in NCCL's tests.
LINK_SHARE = 0.8
# Latency in seconds from one GPU to the next, within a node and between nodes.
HOP_LATENCY, NETWORK_LATENCY = 1e-6, 5e-6
# Share of a GPU's memory reserved for CUDA's context, NCCL's buffers, and fragmentation.
RESERVED_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A type of GPU, or this machine's CPU, with memory in bytes and one-way bandwidths in bytes/s.

    Attributes:
        flops: peak FLOP/s of dense matrix products by precision.
        link_bandwidth: bandwidth to the other GPUs of a node.
        network_bandwidth: bandwidth per GPU to other nodes.
        achievable: share of `flops` that large layers reach.
    """

    name: str
    memory: int
    flops: dict[ResolvedPrecision, float]
    memory_bandwidth: float
    link_bandwidth: float
    network_bandwidth: float
    gpus_per_node: int = 8
    achievable: float = 0.55
    processor: bool = False

    def __post_init__(self) -> None:
        for name in ("memory", "memory_bandwidth", "link_bandwidth", "network_bandwidth", "achievable"):
            check_positive(name, getattr(self, name))
        for precision, flops in self.flops.items():
            check_positive(f"flops in {precision}", flops)
        check_integer("gpus_per_node", self.gpus_per_node, minimum=1)

    @property
    def usable(self) -> int:
        """Bytes that a plan may use."""
        return int(self.memory * (1 - RESERVED_SHARE))


def _flops(float32: float, bfloat16: float) -> dict[ResolvedPrecision, float]:
    return {"float32": float32 * 1e12, "bfloat16": bfloat16 * 1e12}


# Data sheet values without sparsity; memory as PyTorch reports it. Networks are those of the reference designs, one
# adapter of 200 (A100) or 400 Gbit/s per GPU. ViT-22B reached 54.9% of the peak on TPUv4 (arXiv 2302.05442,
# section 4.1), and `docs/benchmarks.md` aims at 55%.
GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        # NVIDIA A100 80 GB SXM: 2,039 GB/s, NVLink 600 GB/s both ways.
        Gpu(
            name="a100",
            memory=79 * GIB,
            flops=_flops(*PEAK_TFLOPS["a100"]),
            memory_bandwidth=2.039e12,
            link_bandwidth=300e9,
            network_bandwidth=25e9,
        ),
        # NVIDIA H100 SXM: 3.35 TB/s, NVLink 900 GB/s both ways.
        Gpu(
            name="h100",
            memory=79 * GIB,
            flops=_flops(*PEAK_TFLOPS["h100"]),
            memory_bandwidth=3.35e12,
            link_bandwidth=450e9,
            network_bandwidth=50e9,
        ),
        # NVIDIA H200 SXM: an H100 with 141 GB at 4.8 TB/s.
        Gpu(
            name="h200",
            memory=139 * GIB,
            flops=_flops(*PEAK_TFLOPS["h200"]),
            memory_bandwidth=4.8e12,
            link_bandwidth=450e9,
            network_bandwidth=50e9,
        ),
        # One GPU of an NVIDIA HGX B200: 180 GB, 8 TB/s, NVLink 1,800 GB/s both ways.
        Gpu(
            name="b200",
            memory=178 * GIB,
            flops=_flops(*PEAK_TFLOPS["b200"]),
            memory_bandwidth=8e12,
            link_bandwidth=900e9,
            network_bandwidth=50e9,
        ),
        # Two cores of an AMD EPYC (Zen 5), measured in `benchmarks/results/speed`.
        Gpu(
            name="cpu",
            memory=16 * GIB,
            flops=_flops(0.42, 0.65),
            memory_bandwidth=3e10,
            link_bandwidth=5e9,
            network_bandwidth=1e9,
            gpus_per_node=2,
            achievable=0.95,
            processor=True,
        ),
    )
}


def get_gpu(name: str) -> Gpu:
    """Return the GPU called `name`, or raise ConfigError if it is not in the table."""
    if name not in GPUS:
        raise ConfigError(
            f"unknown GPU {name!r}: choose the most similar of {', '.join(GPUS)}, and set what differs with "
            "--gpu-memory, --tflops, --memory-bandwidth, --gpus-per-node, --link-bandwidth and --network-bandwidth"
        )
    return GPUS[name]


def override_gpu(gpu: Gpu, **overrides: float | None) -> Gpu:
    """Return `gpu` with the values that are not None: memory in GiB, tflops of dense bfloat16, bandwidths in GB/s.

    Raises:
        ConfigError: if a value is not positive.
    """
    changes: dict[str, Any] = {}
    for name, value in overrides.items():
        if value is None:
            continue
        check_positive(name, value)
        match name:
            case "memory":
                changes["memory"] = int(value * GIB)
            case "tflops":
                changes["flops"] = _flops(value * gpu.flops["float32"] / gpu.flops["bfloat16"], value)
            case "gpus_per_node":
                changes["gpus_per_node"] = value
            case _:
                changes[name] = value * 1e9
    return replace(gpu, **changes, name=f"{gpu.name}, changed") if changes else gpu


def estimate_seconds(exchange: Communication, layout: ParallelLayout, gpu: Gpu) -> float:
    """Return the seconds of a collective's calls in sequence on a ring (arXiv 1909.09756, section 2)."""
    ranks, per_node = count_ranks(exchange.axis, layout, gpu)
    if ranks == 1:
        return 0.0
    nodes = -(-ranks // per_node)
    lanes = 1 if exchange.collective == "all-to-all" else per_node
    rate = gpu.link_bandwidth if nodes == 1 else min(gpu.link_bandwidth, lanes * gpu.network_bandwidth)
    rounds = 2 if exchange.collective == "all-reduce" else 1
    latency = (per_node - 1) * HOP_LATENCY + (nodes - 1) * NETWORK_LATENCY
    moved = exchange.bytes * (ranks - 1) / ranks
    return rounds * (moved / (rate * LINK_SHARE) + exchange.calls * latency)


def count_ranks(axis: Axis, layout: ParallelLayout, gpu: Gpu) -> tuple[int, int]:
    """Return the number of ranks along an axis, and how many of them share a node; "tensor" is the innermost axis."""
    ranks = {"replicate": layout.replicate, "shard": layout.shard, "tensor": layout.tensor}[axis]
    stride = {"replicate": layout.shard * layout.tensor, "shard": layout.tensor, "tensor": 1}[axis]
    return ranks, max(1, min(ranks, gpu.gpus_per_node // stride))
