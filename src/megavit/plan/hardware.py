"""What GPUs can do, as their makers say, and how fast the ranks of a layout reach each other."""

from dataclasses import dataclass, replace
from typing import Any

from megavit.config.checks import check_integer, check_positive
from megavit.errors import ConfigError
from megavit.plan.communication import Axis, Exchange
from megavit.plan.parallel_layout import Layout, Precision

GIB = 2**30

# A link carries such a share of what its maker says, as NCCL's own tests show on most.
LINK_SHARE = 0.8
# Seconds that a message takes from one GPU to the next, within a node and between two.
HOP, NETWORK_HOP = 1e-6, 5e-6
# Of a GPU's memory, what a plan leaves free: CUDA's context, NCCL's buffers, and gaps between tensors.
RESERVE = 0.1


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One of the cluster's GPUs, all alike.

    Attributes:
        memory: bytes.
        flops: floating point operations a second of dense products of matrices, by precision.
        bandwidth: bytes a second of its memory.
        link: bytes a second to the others of its node, one way.
        node: GPUs in one.
        network: bytes a second to other nodes, one way, of each GPU.
        achievable: share of `flops` that large layers reach where nothing else waits.
    """

    name: str
    memory: int
    flops: dict[Precision, float]
    bandwidth: float
    link: float
    node: int
    network: float
    achievable: float = 0.55
    processor: bool = False

    def __post_init__(self) -> None:
        for name in ("memory", "bandwidth", "link", "network", "achievable"):
            check_positive(name, getattr(self, name))
        for precision, flops in self.flops.items():
            check_positive(f"flops in {precision}", flops)
        check_integer("node", self.node, minimum=1)

    @property
    def usable(self) -> int:
        """Bytes that a plan may use."""
        return int(self.memory * (1 - RESERVE))


def _flops(float32: float, bfloat16: float) -> dict[Precision, float]:
    return {"float32": float32 * 1e12, "bfloat16": bfloat16 * 1e12}


# Of the makers' data sheets, without sparsity; memory as PyTorch reports it. Networks are those of the reference
# designs: an adapter of 200 (A100) or 400 Gbit/s a GPU. 55% of the peak is what ViT-22B reached (arXiv 2302.05442,
# section 4.1, 54.9% on TPUv4) and what `docs/benchmarks.md` aims at.
# fmt: off
GPUS: dict[str, Gpu] = {one.name: one for one in (
    # NVIDIA A100 80 GB SXM: 312 TFLOP/s bf16, 19.5 fp32, 2,039 GB/s, NVLink 600 GB/s both ways.
    Gpu(name="a100", memory=79 * GIB, flops=_flops(19.5, 312), bandwidth=2.039e12, link=300e9, node=8, network=25e9),
    # NVIDIA H100 SXM: 989 TFLOP/s bf16, 67 fp32, 3.35 TB/s, NVLink 900 GB/s both ways.
    Gpu(name="h100", memory=79 * GIB, flops=_flops(67, 989), bandwidth=3.35e12, link=450e9, node=8, network=50e9),
    # NVIDIA H200 SXM: an H100 with 141 GB at 4.8 TB/s.
    Gpu(name="h200", memory=139 * GIB, flops=_flops(67, 989), bandwidth=4.8e12, link=450e9, node=8, network=50e9),
    # NVIDIA HGX B200, an eighth of it: 2,250 TFLOP/s bf16, 80 fp32, 180 GB, 8 TB/s, NVLink 1,800 GB/s both ways.
    Gpu(name="b200", memory=178 * GIB, flops=_flops(80, 2250), bandwidth=8e12, link=900e9, node=8, network=50e9),
    # Two cores of an AMD EPYC (Zen 5), measured: `benchmarks/results/speed`; processes share its memory.
    Gpu(name="cpu", memory=16 * GIB, flops=_flops(0.42, 0.65), bandwidth=3e10, link=5e9, node=2, network=1e9,
        achievable=0.95, processor=True),
)}
# fmt: on


def gpu_of(name: str) -> Gpu:
    """The row of that name.

    Raises:
        ConfigError: for a name that is not in the table.
    """
    if name not in GPUS:
        raise ConfigError(
            f"there is no GPU {name!r} in the table; it has {', '.join(GPUS)}. For another give --gpu-memory, --tflops "
            "and --memory-bandwidth (and --gpus-per-node, --link-bandwidth, --network-bandwidth)"
        )
    return GPUS[name]


def changed(gpu: Gpu, **given: float | None) -> Gpu:
    """`gpu` with the figures that were given: memory in GiB, tflops of dense bfloat16, the rest in GB/s.

    Raises:
        ConfigError: for a figure that is not above 0.
    """
    changes = {name: value for name, value in given.items() if value is not None}
    for name, value in changes.items():
        check_positive(name, value)
    found: dict[str, Any] = {}
    for name, value in changes.items():
        match name:
            case "memory":
                found["memory"] = int(value * GIB)
            case "tflops":
                share = gpu.flops["float32"] / gpu.flops["bfloat16"]
                found["flops"] = _flops(value * share, value)
            case "node":
                found["node"] = value
            case _:
                found[name] = value * 1e9
    return replace(gpu, **found, name=f"{gpu.name}, changed") if found else gpu


def seconds_of(exchange: Exchange, layout: Layout, gpu: Gpu) -> float:
    """How long the calls of a collective take one after the other.

    On a ring (arXiv 1909.09756, section 2); what is dealt out goes straight to who receives it.
    """
    ranks, near = ranks_of(exchange.axis, layout, gpu)
    if ranks == 1:
        return 0.0
    nodes = -(-ranks // near)
    lanes = 1 if exchange.collective == "all-to-all" else near
    rate = gpu.link if nodes == 1 else min(gpu.link, lanes * gpu.network)
    rounds = 2 if exchange.collective == "all-reduce" else 1
    latency = (near - 1) * HOP + (nodes - 1) * NETWORK_HOP
    moved = exchange.bytes * (ranks - 1) / ranks
    return rounds * (moved / (rate * LINK_SHARE) + exchange.calls * latency)


def ranks_of(axis: Axis, layout: Layout, gpu: Gpu) -> tuple[int, int]:
    """(ranks along an axis, how many of them are in one node): tensor ranks are neighbors, then those of a shard."""
    ranks = {"replicate": layout.replicate, "shard": layout.shard, "tensor": layout.tensor}[axis]
    apart = {"replicate": layout.shard * layout.tensor, "shard": layout.tensor, "tensor": 1}[axis]
    return ranks, max(1, min(ranks, gpu.node // apart))
