"""Compute the communication of one GPU in a training step, by formula.

Bytes are of full tensors, as PyTorch's users see them; an all-to-all counts received bytes. A ring of n ranks transfers
(n - 1) / n of a gather or scatter, and twice that of an all-reduce.
"""

from dataclasses import dataclass
from typing import Literal

from megavit.config.vit import ViTConfig
from megavit.distributed.tensor_parallel_support import adds_branches_first
from megavit.model.activation_memory import BFLOAT16, FLOAT32
from megavit.plan.parallel_layout import ParallelLayout, Training
from megavit.plan.parameters import shard_parameters

Collective = Literal["all-gather", "reduce-scatter", "all-reduce", "all-to-all"]
Axis = Literal["replicate", "shard", "tensor"]
Phase = Literal["forward", "backward", "optimizer"]
DDP_BUCKET = 25 * 2**20


@dataclass(frozen=True, kw_only=True)
class Communication:
    """One kind of collective in a step: its calls along a mesh axis, and the bytes of their full tensors."""

    collective: Collective
    axis: Axis
    phase: Phase
    bytes: int
    calls: int


def compute_communication(config: ViTConfig, training: Training, layout: ParallelLayout) -> list[Communication]:
    """Return the collectives of a step that transfer more than a few numbers."""
    found = _sharded(config, training, layout) if layout.fully_sharded else _replicated(config, layout)
    if layout.tensor > 1:
        found += _tensor_parallel(config, training, layout)
    return [communication for communication in found if communication.bytes]


def sum_passes(found: list[Communication]) -> dict[Collective, int]:
    """Return the bytes of the forward and backward passes by collective."""
    total: dict[Collective, int] = {}
    for communication in found:
        if communication.phase != "optimizer":
            total[communication.collective] = total.get(communication.collective, 0) + communication.bytes
    return total


def _replicated(config: ViTConfig, layout: ParallelLayout) -> list[Communication]:
    """Return DDP's all-reduces: once per step, in buckets, most of which overlap with the backward pass."""
    if layout.replicate == 1:
        return []
    size = FLOAT32 * shard_parameters(config, 1, 1).total
    calls = max(1, size // DDP_BUCKET)
    return [Communication(collective="all-reduce", axis="replicate", phase="backward", bytes=size, calls=calls)]


def _sharded(config: ViTConfig, training: Training, layout: ParallelLayout) -> list[Communication]:
    """Return FSDP2's collectives: all-gathers of each unit before both passes, and reduce-scatters of its gradients."""
    parameters = shard_parameters(config, layout.shard, layout.tensor)
    times, units = layout.gradient_accumulation, parameters.depth + 1
    found: list[Communication] = []
    if layout.shard > 1:
        gathered = layout.numerics(training).weight * parameters.padded * times
        scattered = FLOAT32 * parameters.padded * times
        calls = units * times
        found += [
            Communication(collective="all-gather", axis="shard", phase="forward", bytes=gathered, calls=calls),
            Communication(collective="all-gather", axis="shard", phase="backward", bytes=gathered, calls=calls),
            Communication(collective="reduce-scatter", axis="shard", phase="backward", bytes=scattered, calls=calls),
        ]
        if training.optimizer == "muon":
            # As many matrices of a shape at a time as there are ranks: scattered in float32, gathered in bfloat16.
            rounds = -(-parameters.depth // layout.shard)
            size = (FLOAT32 + BFLOAT16) * parameters.matrices * layout.shard * rounds // parameters.depth
            found.append(
                Communication(collective="all-to-all", axis="shard", phase="optimizer", bytes=size, calls=8 * rounds)
            )
    if layout.replicate > 1:
        size = FLOAT32 * parameters.per_rank
        found.append(
            Communication(collective="all-reduce", axis="replicate", phase="backward", bytes=size, calls=units)
        )
    return found


def _tensor_parallel(config: ViTConfig, training: Training, layout: ParallelLayout) -> list[Communication]:
    """Return the all-reduces of each layer's outputs and input gradients (arXiv 1909.08053, section 3).

    There are two per layer and pass, or one if the branches are added first.
    """
    numerics = layout.numerics(training)
    tokens = config.num_patches + config.num_prefix_tokens
    sums = 1 if adds_branches_first(config) else 2
    calls = sums * config.depth * layout.gradient_accumulation
    stream = layout.micro_batch_size * tokens * config.dim
    outputs = stream * numerics.product * calls
    inputs = stream * numerics.norm * calls
    recomputed = outputs // 2 if layout.gradient_checkpointing and sums == 2 else 0
    found = [
        Communication(collective="all-reduce", axis="tensor", phase="forward", bytes=outputs, calls=calls),
        Communication(collective="all-reduce", axis="tensor", phase="backward", bytes=inputs + recomputed, calls=calls),
    ]
    if training.optimizer == "muon":
        # All tensor-parallel ranks gather the same matrices.
        rounds = -(-config.depth // layout.shard)
        matrices = shard_parameters(config, 1, layout.tensor).matrices
        size = FLOAT32 * matrices * layout.tensor * rounds // config.depth
        found.append(
            Communication(collective="all-gather", axis="tensor", phase="optimizer", bytes=size, calls=4 * rounds)
        )
    return found
