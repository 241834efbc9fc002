"""The memory of one GPU in a training step, by formula, at the moments at which it can be fullest.

Weights, gradients, optimizer and activations are counted as in ZeRO (arXiv 1910.02054, section 3), in the types that
`megavit.train` really holds them in; what FSDP2 gathers and reduces beside them as PyTorch 2.15 does it.
"""

from dataclasses import dataclass, fields

from megavit.config.vit import ViTConfig
from megavit.plan.activations import BFLOAT16, FLOAT32, kept
from megavit.plan.parallel_layout import Layout, Training
from megavit.plan.parameters import Weights, weights_of

# Muon's step of the matrices of one shape: what is to be turned and its stack in float32, turning it in bfloat16.
MUON_STEP = 2 * FLOAT32 + 2 * BFLOAT16
# Elements of the matrices of one shape that it does so with at a time; that of `megavit.train.optim.muon`.
CHUNK_ELEMENTS = 2**27
# Of the images: as uint8, and normalized, in float32.
PIXEL = 1 + FLOAT32


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one GPU at one moment of a step.

    Attributes:
        weights: float32, this GPU's part.
        gradients: the same of what has been computed.
        optimizer: Muon's momentum of the matrices and AdamW's two moments of the rest, or AdamW's of all.
        averages: the moving average of the weights, and the best so far.
        activations: what is kept of the images for the way back.
        working: what a block, or the optimizer, computes with at that moment.
        gathered: weights that are whole for a while, and their casts.
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
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def fullest(config: ViTConfig, training: Training, layout: Layout) -> tuple[str, Memory]:
    """The moment at which a GPU holds most, and what it holds."""
    found = moments(config, training, layout)
    return max(found.items(), key=lambda item: item[1].total)


def moments(config: ViTConfig, training: Training, layout: Layout) -> dict[str, Memory]:
    """Moment -> memory, for the moments of a step that can be the fullest."""
    weights = weights_of(config, layout.shard, layout.tensor)
    always = {
        "weights": FLOAT32 * weights.part,
        "optimizer": optimizer_state(weights, training),
        "averages": training.averages * FLOAT32 * weights.part,
    }
    passes = _sharded(config, training, layout) if layout.fully_sharded else _whole(config, training, layout)
    pixels = config.channels * config.image_hw[0] * config.image_hw[1]
    images = layout.micro_batch * layout.accumulation * (pixels * PIXEL + FLOAT32 * config.num_classes)
    found = {}
    for moment, parts in (passes | {"optimizer": _stepping(weights, training, layout)}).items():
        images_now = images + parts.pop("cast", 0)
        found[moment] = Memory(**always, images=images_now, **parts)
    return found


def optimizer_state(weights: Weights, training: Training) -> int:
    """Bytes of one GPU's part of it, float32."""
    muon = weights.matrices if training.optimizer == "muon" else 0
    return FLOAT32 * (muon + 2 * (weights.part - muon))


def _stepping(weights: Weights, training: Training, layout: Layout) -> dict[str, int]:
    # One GPU turns so many whole matrices at a time; of several that hold them divided, each turns one.
    together = 1 if layout.fully_sharded else min(weights.depth, max(1, CHUNK_ELEMENTS // weights.largest))
    working = MUON_STEP * together * weights.largest if training.optimizer == "muon" else 0
    return {"gradients": FLOAT32 * weights.part, "working": working, "exchange": _buckets(weights, layout)}


def _buckets(weights: Weights, layout: Layout) -> int:
    """DDP's copy of all gradients."""
    return FLOAT32 * weights.whole if layout.replicate > 1 and not layout.fully_sharded else 0


def _whole(config: ViTConfig, training: Training, layout: Layout) -> dict[str, dict[str, int]]:
    """On a GPU that has the whole model: alone, or with DDP."""
    numerics = layout.numerics(training)
    weights = weights_of(config, 1, 1)
    one, images, depth = kept(config, numerics), layout.micro_batch, config.depth
    again = layout.checkpointing
    inside = one.stream if again else one.block
    trunk = one.before + depth * inside
    casts = BFLOAT16 * weights.linear if numerics.autocast else 0
    block_casts = BFLOAT16 * weights.block.linear if numerics.autocast else 0
    there = FLOAT32 * weights.whole if layout.accumulation > 1 else 0
    matrix = FLOAT32 * config.dim * config.mlp_dim
    block = one.recomputed if again else 0
    exchange = _buckets(weights, layout)
    return {
        "forward": {
            "gradients": there,
            "activations": images * trunk,
            "working": images * (one.unkept if again else one.forward),
            "gathered": casts,
            "exchange": exchange,
        },
        "loss": {
            "gradients": there,
            "activations": images * (trunk + one.after),
            "gathered": casts,
            "exchange": exchange,
        },
        "way back begins": {
            "gradients": max(there, FLOAT32 * weights.after + matrix),
            "activations": images * (trunk + block),
            "working": images * one.backward,
            "gathered": block_casts if again else casts,
            "exchange": exchange,
        },
        "way back ends": {
            "gradients": max(there, FLOAT32 * (weights.whole - weights.block.whole) + matrix),
            "activations": images * (one.before + inside + block),
            "working": images * one.backward,
            "gathered": block_casts,
            "exchange": exchange,
        },
    }


def _sharded(config: ViTConfig, training: Training, layout: Layout) -> dict[str, dict[str, int]]:
    """On a GPU that has a part of each block, and gathers the others' when it comes to that block."""
    numerics = layout.numerics(training)
    weights = weights_of(config, layout.shard, layout.tensor)
    one, images, depth = kept(config, numerics, layout.tensor), layout.micro_batch, config.depth
    again = layout.checkpointing
    inside = one.stream if again else one.block
    trunk = one.before + depth * inside
    block = one.recomputed if again else 0
    rest, whole_block = numerics.weight * weights.rest.padded, numerics.weight * weights.block.padded
    # Beside the block that is computed, the next one is on its way.
    gathered = rest + 2 * whole_block
    whole_gradients = numerics.weight * (weights.after + config.dim * config.mlp_dim // layout.tensor)
    part, block_part = FLOAT32 * weights.part, FLOAT32 * weights.block.part
    there = part if layout.accumulation > 1 else 0
    # What a block's reduction answers becomes its gradient, or is added to the one that is there.
    reduced = FLOAT32 * weights.block.padded + (block_part if there else 0)
    cast = images * one.cast
    back = {"working": images * one.backward + whole_gradients}
    return {
        "forward": {
            "gradients": there,
            "activations": images * trunk,
            "working": images * (one.unkept if again else one.forward),
            "gathered": gathered,
            "cast": cast,
        },
        "loss": {
            "gradients": there,
            "activations": images * (trunk + one.after),
            "gathered": gathered,
        },
        "way back begins": back
        | {
            "gradients": there,
            "activations": images * (trunk + block),
            "gathered": gathered,
        },
        "way back, second block": back
        | {
            "gradients": max(there, block_part),
            "activations": images * (trunk - inside + block),
            "gathered": gathered,
            "exchange": reduced,
        },
        "way back ends": back
        | {
            "gradients": max(there, (depth - 1) * block_part),
            "activations": images * (one.before + inside + block),
            "gathered": gathered - whole_block,
            "exchange": reduced,
        },
        "rest": {
            "gradients": part,
            "gathered": rest,
            "exchange": FLOAT32 * weights.rest.padded,
            "working": numerics.weight * weights.rest.whole,
        },
    }
