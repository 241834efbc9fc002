"""How a training step is divided over a cluster, and in which numbers it computes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from megavit.config.checks import check_choice, check_integer
from megavit.config.recipe import OptimizerKind
from megavit.config.vit import ViTConfig
from megavit.plan.activations import BFLOAT16, FLOAT32, Numerics

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is the same in every layout.

    Attributes:
        batch: images a step, of the whole cluster.
        precision: of the matrix products.
        optimizer: as `megavit.config.recipe.OptimizerRecipe.kind`.
        averages: copies of the weights beside those that are trained: their moving average, and the best so far.
        processor: whether it runs on processors, not GPUs.
    """

    batch: int
    precision: Precision = "bfloat16"
    optimizer: OptimizerKind = "muon"
    averages: int = 2
    processor: bool = False

    def __post_init__(self) -> None:
        check_integer("batch", self.batch, minimum=1)
        check_choice("precision", self.precision, get_args(Precision))
        check_choice("optimizer", self.optimizer, get_args(OptimizerKind))
        check_integer("averages", self.averages, minimum=0)


@dataclass(frozen=True, kw_only=True, order=True)
class Layout:
    """A grid of (replicate, shard, tensor) GPUs, and how a GPU goes through its images.

    Attributes:
        replicate: copies of the model (DDP, or HSDP with `shard`).
        shard: GPUs that hold one copy of weights, gradients and optimizer between them (FSDP2).
        tensor: GPUs that compute each layer together, each some heads and some of the MLP's channels.
        micro_batch: images that a GPU computes at once.
        accumulation: of these in a step, one after the other.
        checkpointing: keep each block's input alone, and compute the rest again on the way back.
    """

    replicate: int = 1
    shard: int = 1
    tensor: int = 1
    micro_batch: int
    accumulation: int = 1
    checkpointing: bool = False

    @property
    def gpus(self) -> int:
        return self.replicate * self.shard * self.tensor

    @property
    def batch(self) -> int:
        """Images a step, of all GPUs."""
        return self.replicate * self.shard * self.micro_batch * self.accumulation

    @property
    def fully_sharded(self) -> bool:
        """Whether FSDP2 holds the weights: it does with tensor parallelism too, as `megavit train` has it."""
        return self.shard > 1 or self.tensor > 1

    @property
    def mesh(self) -> str:
        """What a person calls it."""
        if self.shard > 1:
            name = f"HSDP {self.replicate}×{self.shard}" if self.replicate > 1 else f"FSDP {self.shard}"
        else:
            name = f"DDP {self.replicate}" if self.replicate > 1 else ""
        if self.tensor > 1:
            return f"{name} × TP {self.tensor}" if name else f"TP {self.tensor}"
        return name or "one GPU"

    def numerics(self, training: Training) -> Numerics:
        """FSDP2 gathers weights in the type of the products; else autocast casts them, and keeps the casts."""
        if training.precision == "float32":
            return Numerics(FLOAT32, processor=training.processor)
        if self.fully_sharded:
            return Numerics(BFLOAT16, processor=training.processor)
        return Numerics(FLOAT32, autocast=True, processor=training.processor)


def meshes(config: ViTConfig, gpus: int, node: int) -> Iterator[tuple[int, int, int]]:
    """(replicate, shard, tensor) of each grid of `gpus` that can compute the model.

    Tensor parallelism stays within a node of so many GPUs: it waits for its sums twice a branch.
    """
    for tensor in divisors(gpus):
        if tensor > node or not divides_layers(config, tensor):
            continue
        for shard in divisors(gpus // tensor):
            yield gpus // tensor // shard, shard, tensor


def divides_layers(config: ViTConfig, tensor: int) -> bool:
    """Whether so many GPUs can compute a layer together."""
    design = config.design
    if tensor == 1:
        return True
    if design.block == "zeta" or design.attention_out_norm or design.mlp_out_norm:
        return False
    return config.heads % tensor == 0 and config.mlp_dim % tensor == 0


def layouts(config: ViTConfig, training: Training, gpus: int, node: int) -> Iterator[Layout]:
    """Every layout of the batch on so many GPUs; none of a grid whose data ranks do not divide the batch."""
    for replicate, shard, tensor in meshes(config, gpus, node):
        images, left = divmod(training.batch, replicate * shard)
        if left:
            continue
        for micro_batch in divisors(images):
            for checkpointing in (False, True):
                yield Layout(
                    replicate=replicate,
                    shard=shard,
                    tensor=tensor,
                    micro_batch=micro_batch,
                    accumulation=images // micro_batch,
                    checkpointing=checkpointing,
                )


def divisors(number: int) -> list[int]:
    small = [one for one in range(1, int(number**0.5) + 1) if number % one == 0]
    return small + [number // one for one in reversed(small) if one * one != number]
