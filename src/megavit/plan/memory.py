"""Compute the memory of one GPU in the phases of a training step that may have the peak, by formula.

Weights, gradients, optimizer and activations are counted as in ZeRO (arXiv 1910.02054, section 3), in the data types of
`megavit.training`, and the buffers of FSDP2 as in PyTorch 2.15.
"""

from dataclasses import dataclass, fields

from megavit.config.vit import ViTConfig
from megavit.model.activation_memory import BFLOAT16, FLOAT32, compute_saved_activations
from megavit.plan.parallel_layout import ParallelLayout, Training
from megavit.plan.parameters import ShardedParameters, shard_parameters
from megavit.training.optim.muon import CHUNK_ELEMENTS

# Bytes per element in Muon's step: the update and its stack in float32, two bfloat16 copies to orthogonalize.
MUON_STEP = 2 * FLOAT32 + 2 * BFLOAT16
# Bytes of a pixel: uint8, and normalized float32.
PIXEL = 1 + FLOAT32


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """The memory of one GPU in one phase of a step, in bytes.

    Attributes:
        weights: local shard of the weights, float32.
        gradients: gradients computed so far, float32.
        optimizer: Muon's momentum of matrices and AdamW's two moments of the rest, or of all.
        averages: moving average of the weights, and the best so far.
        activations: activations saved for the backward pass.
        working: temporaries of a block or the optimizer.
        gathered: unsharded weights and their casts.
        exchange: communication buffers of gradients.
        images: batch of images.
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
    """Return the phase of peak memory and the memory in it."""
    return max(compute_memory_by_phase(config, training, layout).items(), key=lambda item: item[1].total)


def compute_memory_by_phase(config: ViTConfig, training: Training, layout: ParallelLayout) -> dict[str, MemoryUse]:
    """Return the memory in each phase of a step that may have the peak, by name."""
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
    # Unsharded, a GPU orthogonalizes several matrices at a time; sharded, one.
    together = 1 if layout.fully_sharded else min(weights.depth, max(1, CHUNK_ELEMENTS // weights.largest))
    working = MUON_STEP * together * weights.largest if training.optimizer == "muon" else 0
    return {"gradients": FLOAT32 * weights.per_rank, "working": working, "exchange": _buckets(weights, layout)}


def _buckets(weights: ShardedParameters, layout: ParallelLayout) -> int:
    return FLOAT32 * weights.total if layout.replicate > 1 and not layout.fully_sharded else 0


def _unsharded(config: ViTConfig, training: Training, layout: ParallelLayout) -> dict[str, dict[str, int]]:
    """Return the memory that varies by phase for a single GPU or DDP."""
    numerics = layout.numerics(training)
    weights = shard_parameters(config, 1, 1)
    saved, images = compute_saved_activations(config, numerics), layout.micro_batch_size
    recomputes = layout.gradient_checkpointing
    inside = saved.stream if recomputes else saved.block
    trunk = saved.before + saved.of_blocks(config.depth, recomputes)
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
    """Return the memory that varies by phase for FSDP2, which gathers each block for its passes."""
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
    # The next block is prefetched.
    gathered = rest + 2 * full_block
    full_gradients = numerics.weight * (weights.after + config.dim * config.mlp_dim // layout.tensor)
    part, block_part = FLOAT32 * weights.per_rank, FLOAT32 * weights.block.per_rank
    accumulated = part if layout.gradient_accumulation > 1 else 0
    # The reduced output becomes the block's gradient, or is added to the accumulated one.
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
