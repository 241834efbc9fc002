"""Count the parameters of a model per GPU of a layout."""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod

from megavit.config.vit import ViTConfig
from megavit.model.statistics import Shape, Shapes, block_shapes, parameter_shapes

# A plan lists parameters that sharding pads by more than this factor.
MAX_PADDING = 1.1


@dataclass(frozen=True)
class FsdpUnit:
    """The number of parameters that FSDP2 gathers together: those of a block, or all outside the blocks.

    Attributes:
        total: parameters of one tensor-parallel rank.
        padded: the same with each first axis padded to a multiple of the number of shards.
        per_rank: parameters stored per rank.
        linear: parameters of `total` that autocast casts.
        matrices: parameters of `per_rank` that Muon updates.
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
    """The number of parameters of a model in a layout, in `depth` identical blocks and the rest.

    Attributes:
        after: parameters of `rest` that come after the blocks, which get their gradients first.
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
    """Return the parameters of one model replica sharded over `shard` × `tensor` GPUs."""
    rest = _rest_shapes(config)
    after = sum(prod(s) for name, s in rest.items() if name.startswith(("norm.", "pool.", "mlp_head.")))
    block = _make_unit(block_shapes(config), shard, tensor)
    return ShardedParameters(block, _make_unit(rest, shard, 1), config.depth, after)


def find_padded_parameters(config: ViTConfig, shard: int, tensor: int) -> dict[str, float]:
    """Return the padding factors above `MAX_PADDING` of sharded parameters by name, once for all blocks."""
    block = {f"transformer.layers.*.{name}": get_tp_shape(name, s, tensor) for name, s in block_shapes(config).items()}
    shapes = _rest_shapes(config) | block
    factors = {name: ceil(shape[0] / shard) * shard / shape[0] for name, shape in shapes.items()}
    return {name: factor for name, factor in factors.items() if factor > MAX_PADDING}


def get_tp_shape(name: str, shape: Shape, tensor: int) -> Shape:
    """Return the local shape of a block's parameter on one tensor-parallel rank.

    Input projections of a branch are sharded by rows, output projections by columns; all else is replicated.
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
