"""How the parameters of a model are sharded over the GPUs of a layout: counts, not bytes."""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod

from megavit.config.vit import ViTConfig
from megavit.model.statistics import Shape, Shapes, block_shapes, parameter_shapes

# Parameters that sharding pads by more than this factor are named in a plan.
MAX_PADDING = 1.1


@dataclass(frozen=True)
class FsdpUnit:
    """The parameters that FSDP2 gathers together: those of a block, or all outside the blocks.

    Attributes:
        total: parameters of one tensor-parallel rank's share of the unit.
        padded: the same with the first axis of each padded to a multiple of the ranks that shard it.
        per_rank: that one rank holds.
        linear: of `total`, those that autocast casts.
        matrices: of `per_rank`, those that Muon updates.
        largest: elements of the largest of these matrices, unsharded.
    """

    total: int
    padded: int
    per_rank: int
    linear: int
    matrices: int
    largest: int


@dataclass(frozen=True)
class ShardedParameters:
    """The parameters of a model in a layout.

    Attributes:
        block: the unit of each of `depth` blocks, which are alike.
        rest: the unit of everything outside the blocks.
        after: parameters of the rest that come after the blocks: the first that get a gradient.
    """

    block: FsdpUnit
    rest: FsdpUnit
    depth: int
    after: int

    @property
    def per_rank(self) -> int:
        return self.depth * self.block.per_rank + self.rest.per_rank

    @property
    def total(self) -> int:
        return self.depth * self.block.total + self.rest.total

    @property
    def padded(self) -> int:
        return self.depth * self.block.padded + self.rest.padded

    @property
    def linear(self) -> int:
        return self.depth * self.block.linear + self.rest.linear

    @property
    def matrices(self) -> int:
        return self.depth * self.block.matrices

    @property
    def largest(self) -> int:
        return self.block.largest


@lru_cache(maxsize=4096)
def shard_parameters(config: ViTConfig, shard: int, tensor: int) -> ShardedParameters:
    """Return how `shard` × `tensor` GPUs hold one copy of the model between them."""
    rest = _rest_shapes(config)
    after = sum(prod(s) for name, s in rest.items() if name.startswith(("norm.", "pool.", "mlp_head.")))
    block = _make_unit(block_shapes(config), shard, tensor)
    return ShardedParameters(block, _make_unit(rest, shard, 1), config.depth, after)


def find_padded_parameters(config: ViTConfig, shard: int, tensor: int) -> dict[str, float]:
    """Return the padding factor of each parameter that sharding pads by more than a tenth, by name.

    A block's parameters are named once, for all blocks.
    """
    block = {f"transformer.layers.*.{name}": get_tp_shape(name, s, tensor) for name, s in block_shapes(config).items()}
    shapes = _rest_shapes(config) | block
    factors = {name: ceil(shape[0] / shard) * shard / shape[0] for name, shape in shapes.items()}
    return {name: factor for name, factor in factors.items() if factor > MAX_PADDING}


def get_tp_shape(name: str, shape: Shape, tensor: int) -> Shape:
    """Return the shape of one tensor-parallel rank's share of a block's parameter.

    Projections into a branch are sharded by rows, those out of it by columns; norms, and what is added after the sum
    of the branches, are replicated.
    """
    module, _, kind = name.rpartition(".")
    if module in ("attention.to_qkv", "mlp.into"):
        return (shape[0] // tensor, *shape[1:])
    if module in ("attention.out", "mlp.out") and kind == "weight":
        return (shape[0], shape[1] // tensor)
    return shape


def _rest_shapes(config: ViTConfig) -> dict[str, Shape]:
    return {name: s for name, s in parameter_shapes(config).items() if not name.startswith("transformer.layers.")}


def _make_unit(shapes: Shapes, shard: int, tensor: int) -> FsdpUnit:
    total = per_rank = linear = matrices = largest = 0
    for name, shape in shapes.items():
        first, *others = get_tp_shape(name, shape, tensor)
        size, held = first * prod(others), ceil(first / shard) * prod(others)
        total += size
        per_rank += held
        module, _, kind = name.rpartition(".")
        if kind in ("weight", "bias") and not module.endswith("norm"):
            linear += size
        if name.startswith(("attention.", "mlp.")) and len(shape) == 2:
            matrices += held
            largest = max(largest, prod(shape))
    return FsdpUnit(total, per_rank * shard, per_rank, linear, matrices, largest)
