"""How a model's parameters lie on the GPUs of a layout: numbers, not bytes."""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod

from megavit.config.vit import ViTConfig
from megavit.model.statistics import Shape, Shapes, block_shapes, parameter_shapes

# Beyond this, a plan names the parameter.
PADS_TOO_MUCH = 1.1


@dataclass(frozen=True)
class Unit:
    """What FSDP2 gathers together: a block, or all that is in none.

    Attributes:
        whole: parameters of one tensor rank's share of the unit.
        padded: the same with each parameter's first axis filled up to a multiple of the ranks that shard it.
        part: that one rank holds.
        linear: of `whole`, those that autocast casts.
        matrices: of `part`, those that Muon steps.
        largest: of the largest of these that lie in one parameter, whole.
    """

    whole: int
    padded: int
    part: int
    linear: int
    matrices: int
    largest: int


@dataclass(frozen=True)
class Weights:
    """The blocks, all alike, and the rest.

    Attributes:
        after: parameters of the rest that come after the blocks: the first that have a gradient.
    """

    block: Unit
    rest: Unit
    depth: int
    after: int

    @property
    def part(self) -> int:
        """Parameters that one rank holds."""
        return self.depth * self.block.part + self.rest.part

    @property
    def whole(self) -> int:
        return self.depth * self.block.whole + self.rest.whole

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
def weights_of(config: ViTConfig, shard: int, tensor: int) -> Weights:
    block = block_shapes(config)
    rest = {name: s for name, s in parameter_shapes(config).items() if not name.startswith("transformer.layers.")}
    after = sum(prod(s) for name, s in rest.items() if name.startswith(("norm.", "pool.", "mlp_head.")))
    return Weights(_unit(block, shard, tensor), _unit(rest, shard, 1), config.depth, after)


def padded_parameters(config: ViTConfig, shard: int, tensor: int) -> dict[str, float]:
    """Name -> how many times its size a parameter takes, of those that sharding fills up by more than a tenth.

    A block's parameters are named once, for all blocks.
    """
    block = {f"transformer.layers.*.{name}": divided(name, s, tensor) for name, s in block_shapes(config).items()}
    rest = {name: s for name, s in parameter_shapes(config).items() if not name.startswith("transformer.layers.")}
    factors = {name: _rows(s, shard) * shard / s[0] for name, s in (rest | block).items()}
    return {name: factor for name, factor in factors.items() if factor > PADS_TOO_MUCH}


def divided(name: str, shape: Shape, tensor: int) -> Shape:
    """One tensor rank's share of a block's parameter: of the projections into a branch some rows, of those out of it
    some columns; norms and what is added after the branches' sum are whole everywhere.
    """
    place, _, kind = name.rpartition(".")
    if place in ("attention.to_qkv", "mlp.into"):
        return (shape[0] // tensor, *shape[1:])
    if place in ("attention.out", "mlp.out") and kind == "weight":
        return (shape[0], shape[1] // tensor)
    return shape


def _unit(shapes: Shapes, shard: int, tensor: int) -> Unit:
    whole = part = linear = matrices = largest = 0
    for name, shape in shapes.items():
        mine = divided(name, shape, tensor)
        row = prod(mine[1:])
        held = _rows(mine, shard) * row
        whole += prod(mine)
        part += held
        if _is_linear(name):
            linear += prod(mine)
        if name.startswith(("attention.", "mlp.")) and len(shape) == 2:
            matrices += held
            largest = max(largest, prod(shape))
    return Unit(whole, part * shard, part, linear, matrices, largest)


def _rows(shape: Shape, shard: int) -> int:
    return ceil(shape[0] / shard)


def _is_linear(name: str) -> bool:
    place, _, kind = name.rpartition(".")
    return kind in ("weight", "bias") and not place.endswith("norm")
