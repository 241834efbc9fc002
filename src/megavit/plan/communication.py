"""What one GPU sends and receives in a step, by formula.

Bytes are of whole tensors, as a user of PyTorch sees them: what is gathered, what is to be scattered, what is summed.
What is dealt out counts where it is received. On the wire a ring of n ranks moves (n - 1) / n of a gather or scatter,
and twice that of a sum.
"""

from dataclasses import dataclass
from typing import Literal

from megavit.config.vit import ViTConfig
from megavit.plan.activations import BFLOAT16, FLOAT32
from megavit.plan.parallel_layout import Layout, Training
from megavit.plan.parameters import weights_of

Collective = Literal["all-gather", "reduce-scatter", "all-reduce", "all-to-all"]
Axis = Literal["replicate", "shard", "tensor"]
When = Literal["forward", "backward", "optimizer"]


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One collective of a step.

    Attributes:
        axis: of the grid along which it goes.
        when: in a step it goes on.
        bytes: of the whole tensors, all calls of a step together.
        calls: in a step.
    """

    collective: Collective
    axis: Axis
    when: When
    bytes: int
    calls: int


def exchanges(config: ViTConfig, training: Training, layout: Layout) -> list[Exchange]:
    """The collectives of a step that move more than a few numbers."""
    found = _of_weights(config, training, layout) if layout.fully_sharded else _of_copies(config, layout)
    if layout.tensor > 1:
        found += _within_layers(config, training, layout)
    return [one for one in found if one.bytes]


def passes(found: list[Exchange]) -> dict[Collective, int]:
    """Collective -> bytes of forward and backward passes."""
    total: dict[Collective, int] = {}
    for one in found:
        if one.when != "optimizer":
            total[one.collective] = total.get(one.collective, 0) + one.bytes
    return total


def _of_copies(config: ViTConfig, layout: Layout) -> list[Exchange]:
    """DDP sums the gradients of all micro-batches once (in buckets of 25 MiB, so that most wait for nothing)."""
    if layout.replicate == 1:
        return []
    size = FLOAT32 * weights_of(config, 1, 1).whole
    calls = max(1, size >> 20 // 25) if size else 0
    return [Exchange(collective="all-reduce", axis="replicate", when="backward", bytes=size, calls=calls)]


def _of_weights(config: ViTConfig, training: Training, layout: Layout) -> list[Exchange]:
    """FSDP2 gathers each block, and the rest, before either pass, and scatters the sum of its gradients.

    Copies sum what they have of it once, with the last micro-batch.
    """
    weights = weights_of(config, layout.shard, layout.tensor)
    times, units = layout.accumulation, weights.depth + 1
    found: list[Exchange] = []
    if layout.shard > 1:
        gathered = layout.numerics(training).weight * weights.padded * times
        scattered = FLOAT32 * weights.padded * times
        calls = units * times
        found += [
            Exchange(collective="all-gather", axis="shard", when="forward", bytes=gathered, calls=calls),
            Exchange(collective="all-gather", axis="shard", when="backward", bytes=gathered, calls=calls),
            Exchange(collective="reduce-scatter", axis="shard", when="backward", bytes=scattered, calls=calls),
        ]
        if training.optimizer == "muon":
            # Of each shape, as many matrices at a time as there are ranks: dealt out in float32, collected in bfloat16.
            rounds = -(-weights.depth // layout.shard)
            size = (FLOAT32 + BFLOAT16) * weights.matrices * layout.shard * rounds // weights.depth
            found.append(
                Exchange(collective="all-to-all", axis="shard", when="optimizer", bytes=size, calls=8 * rounds)
            )
    if layout.replicate > 1:
        size = FLOAT32 * weights.part
        found.append(Exchange(collective="all-reduce", axis="replicate", when="backward", bytes=size, calls=units))
    return found


def _within_layers(config: ViTConfig, training: Training, layout: Layout) -> list[Exchange]:
    """The sums of what the ranks of a layer computed: of its branches' answers, and of the gradients of their input.

    Twice a layer and pass (arXiv 1909.08053, section 3), once where both branches are summed together
    (`tensor_parallel_plan`). With gradient checkpointing the way back computes those again that come before the last
    thing it needs: of two answers, one.
    """
    numerics = layout.numerics(training)
    tokens = config.num_patches + config.num_prefix_tokens
    sums = 1 if together(config) else 2
    calls = sums * config.depth * layout.accumulation
    stream = layout.micro_batch * tokens * config.dim
    answers = stream * numerics.product * calls
    inputs = stream * numerics.norm * calls
    again = answers // 2 if layout.checkpointing and sums == 2 else 0
    found = [
        Exchange(collective="all-reduce", axis="tensor", when="forward", bytes=answers, calls=calls),
        Exchange(collective="all-reduce", axis="tensor", when="backward", bytes=inputs + again, calls=calls),
    ]
    if training.optimizer == "muon":
        # The matrices that the ranks of a layer are dealt, the same to all of them.
        rounds = -(-config.depth // layout.shard)
        size = FLOAT32 * weights_of(config, 1, layout.tensor).matrices * layout.tensor * rounds // config.depth
        found.append(Exchange(collective="all-gather", axis="tensor", when="optimizer", bytes=size, calls=4 * rounds))
    return found


def together(config: ViTConfig) -> bool:
    """Whether the branches of a layer are added before the ranks sum them, as `tensor_parallel_plan` has it."""
    return config.design.block == "parallel" and config.design.layer_scale is None and config.dropout == 0
