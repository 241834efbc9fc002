"""The memory of one GPU in a training step, by formula, in the phases that can have the peak.

Weights, gradients, optimizer and activations are counted as in ZeRO (arXiv 1910.02054, section 3), in the types that
`megavit.train` holds them in; what FSDP2 gathers and reduces beside them as PyTorch 2.15 does it.
"""

from dataclasses import dataclass, fields

from megavit.config.vit import ViTConfig
from megavit.plan.activations import BFLOAT16, FLOAT32, compute_saved_activations
from megavit.plan.parallel_layout import ParallelLayout, Training
from megavit.plan.parameters import ShardedParameters, shard_parameters
from megavit.train.optim.muon import CHUNK_ELEMENTS

# Bytes of an element in Muon's step: the update and its stack in float32, its orthogonalization in bfloat16.
MUON_STEP = 2 * FLOAT32 + 2 * BFLOAT16
# Bytes of a pixel: as uint8, and normalized, in float32.
PIXEL = 1 + FLOAT32


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """Bytes that one GPU holds in one phase of a step.

    Attributes:
        weights: float32, this GPU's share.
        gradients: float32, of what has been computed.
        optimizer: Muon's momentum of the matrices and AdamW's two moments of the rest, or AdamW's of all.
        averages: the moving average of the weights, and the best so far.
        activations: saved for the backward pass.
        working: temporaries of a block, or of the optimizer.
        gathered: unsharded weights, and their casts.
        exchange: gradients on their way to other GPUs.
        images: the batch itself.
    """

    weights: int = 0
    gradients: int = 0
    optimizer: int = 0
    averages: int = 0
    activations: int = 0
    working: int = 0
    gathered: int = 0
    exchange: int = 0
    images: int = 0

    @property
    def total(self) -> int:
        return sum(self.to_dict().values())

    def to_dict(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def compute_peak_memory(config: ViTConfig, training: Training, layout: ParallelLayout) -> tuple[str, MemoryUse]:
    """Return the phase in which a GPU holds most, and what it holds."""
    return max(compute_memory_by_phase(config, training, layout).items(), key=lambda item: item[1].total)


def compute_memory_by_phase(config: ViTConfig, training: Training, layout: ParallelLayout) -> dict[str, MemoryUse]:
    """Return the memory in each phase of a step that can have the peak, by the name of the phase."""
    weights = shard_parameters(config, layout.shard, layout.tensor)
    always = {
        "weights": FLOAT32 * weights.per_rank,
        "optimizer": compute_optimizer_state(weights, training),
        "averages": training.averages * FLOAT32 * weights.per_rank,
    }
    passes = _sharded(config, training, layout) if layout.fully_sharded else _unsharded(config, training, layout)
    pixels = config.channels * config.image_hw[0] * config.image_hw[1]
    images = layout.micro_batch_size * layout.gradient_accumulation * (pixels * PIXEL + FLOAT32 * config.num_classes)
    found = {}
    for phase, parts in (passes | {"optimizer": _stepping(weights, training, layout)}).items():
        images_now = images + parts.pop("cast", 0)
        found[phase] = MemoryUse(**always, images=images_now, **parts)
    return found


def compute_optimizer_state(weights: ShardedParameters, training: Training) -> int:
    """Return the bytes of one GPU's share of the optimizer's state, float32."""
    muon = weights.matrices if training.optimizer == "muon" else 0
    return FLOAT32 * (muon + 2 * (weights.per_rank - muon))


def _stepping(weights: ShardedParameters, training: Training, layout: ParallelLayout) -> dict[str, int]:
    # One GPU orthogonalizes several matrices at a time; of GPUs that share them, each has one.
    together = 1 if layout.fully_sharded else min(weights.depth, max(1, CHUNK_ELEMENTS // weights.largest))
    working = MUON_STEP * together * weights.largest if training.optimizer == "muon" else 0
    return {"gradients": FLOAT32 * weights.per_rank, "working": working, "exchange": _buckets(weights, layout)}


def _buckets(weights: ShardedParameters, layout: ParallelLayout) -> int:
    """Return the bytes of DDP's copy of all gradients."""
    return FLOAT32 * weights.total if layout.replicate > 1 and not layout.fully_sharded else 0


def _unsharded(config: ViTConfig, training: Training, layout: ParallelLayout) -> dict[str, dict[str, int]]:
    """Return the parts that vary by phase on a GPU that holds the whole model: a single one, or with DDP."""
    numerics = layout.numerics(training)
    weights = shard_parameters(config, 1, 1)
    saved, images, depth = compute_saved_activations(config, numerics), layout.micro_batch_size, config.depth
    recomputes = layout.gradient_checkpointing
    inside = saved.stream if recomputes else saved.block
    trunk = saved.before + depth * inside
    casts = BFLOAT16 * weights.linear if numerics.autocast else 0
    block_casts = BFLOAT16 * weights.block.linear if numerics.autocast else 0
    accumulated = FLOAT32 * weights.total if layout.gradient_accumulation > 1 else 0
    matrix = FLOAT32 * config.dim * config.mlp_dim
    block = saved.recomputed if recomputes else 0
    exchange = _buckets(weights, layout)
    return {
        "forward": {
            "gradients": accumulated,
            "activations": images * trunk,
            "working": images * (saved.forward_unsaved if recomputes else saved.forward),
            "gathered": casts,
            "exchange": exchange,
        },
        "loss": {
            "gradients": accumulated,
            "activations": images * (trunk + saved.after),
            "gathered": casts,
            "exchange": exchange,
        },
        "backward begins": {
            "gradients": max(accumulated, FLOAT32 * weights.after + matrix),
            "activations": images * (trunk + block),
            "working": images * saved.backward,
            "gathered": block_casts if recomputes else casts,
            "exchange": exchange,
        },
        "backward ends": {
            "gradients": max(accumulated, FLOAT32 * (weights.total - weights.block.total) + matrix),
            "activations": images * (saved.before + inside + block),
            "working": images * saved.backward,
            "gathered": block_casts,
            "exchange": exchange,
        },
    }


def _sharded(config: ViTConfig, training: Training, layout: ParallelLayout) -> dict[str, dict[str, int]]:
    """Return the parts that vary by phase on a GPU that holds shards, and gathers each block when it comes to it."""
    numerics = layout.numerics(training)
    weights = shard_parameters(config, layout.shard, layout.tensor)
    saved, images, depth = (
        compute_saved_activations(config, numerics, layout.tensor),
        layout.micro_batch_size,
        config.depth,
    )
    recomputes = layout.gradient_checkpointing
    inside = saved.stream if recomputes else saved.block
    trunk = saved.before + depth * inside
    block = saved.recomputed if recomputes else 0
    rest, full_block = numerics.weight * weights.rest.padded, numerics.weight * weights.block.padded
    # Beside the block that is computed, the next one is on its way.
    gathered = rest + 2 * full_block
    full_gradients = numerics.weight * (weights.after + config.dim * config.mlp_dim // layout.tensor)
    part, block_part = FLOAT32 * weights.per_rank, FLOAT32 * weights.block.per_rank
    accumulated = part if layout.gradient_accumulation > 1 else 0
    # The output of a block's reduction becomes its gradient, or is added to the accumulated saved.
    reduced = FLOAT32 * weights.block.padded + (block_part if accumulated else 0)
    cast = images * saved.cast
    backward = {"working": images * saved.backward + full_gradients}
    return {
        "forward": {
            "gradients": accumulated,
            "activations": images * trunk,
            "working": images * (saved.forward_unsaved if recomputes else saved.forward),
            "gathered": gathered,
            "cast": cast,
        },
        "loss": {
            "gradients": accumulated,
            "activations": images * (trunk + saved.after),
            "gathered": gathered,
        },
        "backward begins": backward
        | {
            "gradients": accumulated,
            "activations": images * (trunk + block),
            "gathered": gathered,
        },
        "backward, second block": backward
        | {
            "gradients": max(accumulated, block_part),
            "activations": images * (trunk - inside + block),
            "gathered": gathered,
            "exchange": reduced,
        },
        "backward ends": backward
        | {
            "gradients": max(accumulated, (depth - 1) * block_part),
            "activations": images * (saved.before + inside + block),
            "gathered": gathered - full_block,
            "exchange": reduced,
        },
        "last reduction": {
            "gradients": part,
            "gathered": rest,
            "exchange": FLOAT32 * weights.rest.padded,
            "working": numerics.weight * weights.rest.total,
        },
    }
