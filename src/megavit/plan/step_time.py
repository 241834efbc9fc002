"""Estimate the duration of a training step by formula."""

from dataclasses import dataclass

from megavit.config.vit import ViTConfig
from megavit.distributed.fused_qkv_rows import count_fused
from megavit.model.activation_memory import FLOAT32
from megavit.model.statistics import block_shapes, forward_flops, training_flops
from megavit.plan.communication import DDP_BUCKET, Axis, Phase, compute_communication
from megavit.plan.hardware import Gpu, estimate_seconds
from megavit.plan.parallel_layout import ParallelLayout, Training
from megavit.plan.parameters import shard_parameters
from megavit.training.optim.muon import NEWTON_SCHULZ_STEPS

# Memory accesses per parameter of AdamW and of the moving average.
ADAMW_ACCESSES, AVERAGE_ACCESSES = 7, 3


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """The duration of one step in seconds.

    Attributes:
        compute: forward and backward passes, including recomputation.
        communication: communication that does not overlap with computation.
        mfu: model FLOPs utilization, the share of peak FLOP/s without recomputation (arXiv 2204.02311, appendix B).
    """

    compute: float
    communication: float
    optimizer: float
    mfu: float

    @property
    def step(self) -> float:
        return self.compute + self.communication + self.optimizer


def estimate_step_time(config: ViTConfig, training: Training, layout: ParallelLayout, gpu: Gpu) -> StepTime:
    """Return the estimated duration of a step.

    Matrix products run at `gpu.achievable` of the peak. FSDP and DDP communication overlaps with computation as far as
    possible, tensor-parallel all-reduces do not.
    """
    rate = gpu.flops[training.precision] * gpu.achievable
    images = layout.micro_batch_size * layout.gradient_accumulation
    forward = images * forward_flops(config) / layout.tensor / rate
    backward = 2 * forward + (forward if layout.gradient_checkpointing else 0)
    seconds: dict[tuple[Axis, Phase], float] = {}
    for sent in compute_communication(config, training, layout):
        key = (sent.axis, sent.phase)
        seconds[key] = seconds.get(key, 0.0) + estimate_seconds(sent, layout, gpu)
    within = seconds.get(("tensor", "forward"), 0.0) + seconds.get(("tensor", "backward"), 0.0)
    gathering = seconds.get(("shard", "forward"), 0.0)
    reducing = seconds.get(("shard", "backward"), 0.0) + seconds.get(("replicate", "backward"), 0.0)
    # The first all-gather and the last reduction, or DDP's last bucket, do not overlap.
    last = 1 / (config.depth + 1)
    if not layout.fully_sharded:
        last = min(1.0, DDP_BUCKET / (FLOAT32 * shard_parameters(config, 1, 1).total))
    waiting = (
        max(0.0, gathering - forward)
        + max(0.0, reducing - backward)
        + last * (min(gathering, forward) + min(reducing, backward)) / layout.gradient_accumulation
    )
    optimizer = _estimate_optimizer_seconds(config, training, layout, gpu) + sum(
        value for (_, phase), value in seconds.items() if phase == "optimizer"
    )
    compute = forward + backward
    total = compute + waiting + within + optimizer
    useful = training_flops(config) * training.batch / layout.gpus / gpu.flops[training.precision]
    return StepTime(compute=compute, communication=waiting + within, optimizer=optimizer, mfu=useful / total)


def _estimate_optimizer_seconds(config: ViTConfig, training: Training, layout: ParallelLayout, gpu: Gpu) -> float:
    """Return the seconds of memory-bound updates and of Muon's compute-bound iteration."""
    parameters = shard_parameters(config, layout.shard, layout.tensor)
    accessed = parameters.per_rank * (ADAMW_ACCESSES + (AVERAGE_ACCESSES if training.averages else 0)) * FLOAT32
    share = -(-config.depth // layout.shard) / config.depth
    flops = share * count_muon_flops(config) if training.optimizer == "muon" else 0
    return accessed / gpu.memory_bandwidth + flops / (gpu.flops["bfloat16"] * gpu.achievable)


def count_muon_flops(config: ViTConfig) -> int:
    """Return the floating-point operations of orthogonalizing every matrix of the layers once."""
    total = 0
    for name, shape in block_shapes(config).items():
        if len(shape) != 2:
            continue
        fused = count_fused(f"transformer.layers.0.{name}", config)
        short, long = sorted((shape[0] // fused, shape[1]))
        total += fused * NEWTON_SCHULZ_STEPS * (4 * short**2 * long + 2 * short**3)
    return config.depth * total
