"""How long a step takes, by formula."""

from dataclasses import dataclass

from megavit.config.vit import ViTConfig
from megavit.model.statistics import block_shapes, forward_flops, training_flops
from megavit.plan.activations import FLOAT32
from megavit.plan.communication import Axis, When, exchanges
from megavit.plan.hardware import Gpu, seconds_of
from megavit.plan.parallel_layout import Layout, Training
from megavit.plan.parameters import weights_of

# Copies of a parameter that AdamW reads and writes, and that the moving average does.
ADAMW_TOUCHES, AVERAGE_TOUCHES = 7, 3
NEWTON_SCHULZ_STEPS = 5
# DDP's buckets; the last of them is sent after the way back has ended.
BUCKET = 25 * 2**20


@dataclass(frozen=True, kw_only=True)
class Duration:
    """Seconds of one step.

    Attributes:
        compute: of the passes, what is computed again among them.
        waiting: for other GPUs, where nothing is left to compute meanwhile.
        optimizer: its step.
        mfu: model FLOPs utilization, the share of the peak that the model's own operations are; what is computed again
            does not count (arXiv 2204.02311, appendix B).
    """

    compute: float
    waiting: float
    optimizer: float
    mfu: float

    @property
    def step(self) -> float:
        return self.compute + self.waiting + self.optimizer


def duration(config: ViTConfig, training: Training, layout: Layout, gpu: Gpu) -> Duration:
    """By three assumptions: products of matrices run at `gpu.achievable` of the peak; weights are gathered and
    gradients sent while a block computes, as far as that lasts; sums within layers are waited for.
    """
    rate = gpu.flops[training.precision] * gpu.achievable
    images = layout.micro_batch * layout.accumulation
    forward = images * forward_flops(config) / layout.tensor / rate
    backward = 2 * forward + (forward if layout.checkpointing else 0)
    sent = _seconds(config, training, layout, gpu)
    within = sent.get(("tensor", "forward"), 0.0) + sent.get(("tensor", "backward"), 0.0)
    gathering = sent.get(("shard", "forward"), 0.0)
    reducing = sent.get(("shard", "backward"), 0.0) + sent.get(("replicate", "backward"), 0.0)
    # The first block's weights and the last one's gradients have nothing to hide behind.
    last = 1 / (config.depth + 1)
    if not layout.fully_sharded:
        last = min(1.0, BUCKET / (FLOAT32 * weights_of(config, 1, 1).whole))
    waiting = (
        max(0.0, gathering - forward)
        + max(0.0, reducing - backward)
        + last * (min(gathering, forward) + min(reducing, backward)) / layout.accumulation
    )
    stepping = _step_seconds(config, training, layout, gpu) + sum(
        seconds for (_, when), seconds in sent.items() if when == "optimizer"
    )
    compute = forward + backward
    total = compute + waiting + within + stepping
    useful = training_flops(config) * training.batch / layout.gpus / gpu.flops[training.precision]
    return Duration(compute=compute, waiting=waiting + within, optimizer=stepping, mfu=useful / total)


def _seconds(config: ViTConfig, training: Training, layout: Layout, gpu: Gpu) -> dict[tuple[Axis, When], float]:
    found: dict[tuple[Axis, When], float] = {}
    for one in exchanges(config, training, layout):
        key = (one.axis, one.when)
        found[key] = found.get(key, 0.0) + seconds_of(one, layout, gpu)
    return found


def _step_seconds(config: ViTConfig, training: Training, layout: Layout, gpu: Gpu) -> float:
    """The optimizer waits for memory; Muon's iteration, of those matrices that a GPU is dealt, for the multipliers."""
    weights = weights_of(config, layout.shard, layout.tensor)
    touched = weights.part * (ADAMW_TOUCHES + (AVERAGE_TOUCHES if training.averages else 0)) * FLOAT32
    dealt = -(-config.depth // layout.shard) / config.depth
    turning = dealt * muon_flops(config) if training.optimizer == "muon" else 0
    return touched / gpu.bandwidth + turning / (gpu.flops["bfloat16"] * gpu.achievable)


def muon_flops(config: ViTConfig) -> int:
    """Floating point operations of turning every matrix of the layers once (`megavit.train.optim.muon`)."""
    total = 0
    for name, shape in block_shapes(config).items():
        if len(shape) != 2:
            continue
        parts = 3 if name == "attention.to_qkv.weight" else 1
        if name == "mlp.into.weight" and config.design.mlp == "swiglu":
            parts = 2
        short, long = sorted((shape[0] // parts, shape[1]))
        total += parts * NEWTON_SCHULZ_STEPS * (4 * short**2 * long + 2 * short**3)
    return config.depth * total
