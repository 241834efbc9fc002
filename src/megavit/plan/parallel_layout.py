"""Parallel layouts of a training step on a cluster, and their number formats."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from megavit.config.checks import check_choice, check_integer
from megavit.config.recipe import OptimizerKind, ResolvedPrecision
from megavit.config.vit import ViTConfig
from megavit.distributed.tensor_parallel_support import check_tensor_parallel
from megavit.errors import ConfigError
from megavit.model.activation_memory import BFLOAT16, FLOAT32, Numerics


@dataclass(frozen=True, kw_only=True)
class Training:
    """The settings that all layouts of a training share.

    Attributes:
        batch: global batch size in images.
        precision: precision of the matrix products.
        averages: number of additional copies of the weights, such as the moving average and the best so far.
        processor: whether it runs on CPUs rather than GPUs.
    """

    batch: int
    precision: ResolvedPrecision = "bfloat16"
    optimizer: OptimizerKind = "muon"
    averages: int = 2
    processor: bool = False

    def __post_init__(self) -> None:
        check_integer("batch", self.batch, minimum=1)
        check_choice("precision", self.precision, get_args(ResolvedPrecision))
        check_choice("optimizer", self.optimizer, get_args(OptimizerKind))
        check_integer("averages", self.averages, minimum=0)


@dataclass(frozen=True, kw_only=True, order=True)
class ParallelLayout:
    """A mesh of (replicate, shard, tensor) GPUs, and how a GPU processes its images.

    Attributes:
        replicate: number of model replicas (DDP, or HSDP with `shard`).
        shard: number of GPUs that share weights, gradients and optimizer of a replica (FSDP2).
        tensor: tensor-parallel size.
        micro_batch_size: number of images that a GPU processes at a time.
        gradient_accumulation: number of micro-batches per step.
        gradient_checkpointing: whether only each block's input is saved, and the rest recomputed in the backward pass.
    """

    replicate: int = 1
    shard: int = 1
    tensor: int = 1
    micro_batch_size: int
    gradient_accumulation: int = 1
    gradient_checkpointing: bool = False

    @property
    def gpus(self) -> int:
        return self.replicate * self.shard * self.tensor

    @property
    def batch(self) -> int:
        """Global batch size in images."""
        return self.replicate * self.shard * self.micro_batch_size * self.gradient_accumulation

    @property
    def fully_sharded(self) -> bool:
        """Whether FSDP2 is used, as `megavit train` does with shards or tensor parallelism."""
        return self.shard > 1 or self.tensor > 1

    @property
    def name(self) -> str:
        """The usual name, such as "HSDP 2×8 × TP 4"."""
        if self.shard > 1:
            name = f"HSDP {self.replicate}×{self.shard}" if self.replicate > 1 else f"FSDP {self.shard}"
        else:
            name = f"DDP {self.replicate}" if self.replicate > 1 else ""
        if self.tensor > 1:
            return f"{name} × TP {self.tensor}" if name else f"TP {self.tensor}"
        return name or "one GPU"

    def numerics(self, training: Training) -> Numerics:
        """Return the number formats: FSDP2 gathers weights in the products' precision; otherwise autocast is used."""
        if training.precision == "float32":
            return Numerics(FLOAT32, processor=training.processor)
        if self.fully_sharded:
            return Numerics(BFLOAT16, processor=training.processor)
        return Numerics(FLOAT32, autocast=True, processor=training.processor)


def list_meshes(config: ViTConfig, gpus: int, node: int) -> Iterator[tuple[int, int, int]]:
    """Yield the (replicate, shard, tensor) meshes of `gpus` GPUs, with tensor parallelism within `node` GPUs."""
    for tensor in get_divisors(gpus):
        if tensor > node or not can_tensor_parallel(config, tensor):
            continue
        for shard in get_divisors(gpus // tensor):
            yield gpus // tensor // shard, shard, tensor


def can_tensor_parallel(config: ViTConfig, tensor: int) -> bool:
    """Return whether `tensor` GPUs can compute a layer together."""
    try:
        check_tensor_parallel(config, tensor)
    except ConfigError:
        return False
    return True


def list_layouts(config: ViTConfig, training: Training, gpus: int, node: int) -> Iterator[ParallelLayout]:
    """Yield every layout on `gpus` GPUs whose data-parallel ranks divide the batch."""
    for replicate, shard, tensor in list_meshes(config, gpus, node):
        images, left = divmod(training.batch, replicate * shard)
        if left:
            continue
        for micro_batch_size in get_divisors(images):
            for gradient_checkpointing in (False, True):
                yield ParallelLayout(
                    replicate=replicate,
                    shard=shard,
                    tensor=tensor,
                    micro_batch_size=micro_batch_size,
                    gradient_accumulation=images // micro_batch_size,
                    gradient_checkpointing=gradient_checkpointing,
                )


def get_divisors(number: int) -> list[int]:
    small = [divisor for divisor in range(1, int(number**0.5) + 1) if number % divisor == 0]
    return small + [number // divisor for divisor in reversed(small) if divisor**2 != number]
