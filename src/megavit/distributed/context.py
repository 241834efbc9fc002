"""What the training loop asks of the processes that train together, and what it is told where there is one."""

import logging
import math
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from megavit.config.recipe import ParallelRecipe
from megavit.model.vit import MegaVit
from megavit.runtime.process_group import DistContext

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


class SingleProcessContext:
    """One process that trains by itself."""

    ranks = DistContext()
    place, places, tensor = 0, 1, 1
    divides, casts = False, False
    seeds: tuple[int, ...] = ()

    def spread(self, model: MegaVit, *, trained: bool) -> nn.Module:
        return model

    def clip(self, model: nn.Module, most: float) -> float:
        return nn.utils.clip_grad_norm_(model.parameters(), most).item()

    def mean(self, loss: float, norm: float) -> tuple[float, float]:
        return loss, norm

    def greatest(self, *numbers: float) -> list[float]:
        return list(numbers)

    def partly(self, model: nn.Module, *, last: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def assembled(self, rows: Tensor, chosen: list[int], count: int) -> Tensor:
        return rows


class ParallelContext:
    """Several processes, each of which asks the same at the same time.

    Attributes:
        ranks: this process among them.
        mesh: of (replicate, shard, tensor).
        place, places: this process's place among those that have different images, and how many these are.
        tensor: processes that compute a layer together.
        writers: the same processes, for checkpoints that are written while they train.
        saving: the checkpoint that is being written; None before the first.
        seeds: numbers to add to a step's seed, for other random numbers at each place.
        divides: whether no process has a whole model.
        dtype: in which a model that is then divided computes, and its weights are sent.
    """

    def __init__(self, ranks: DistContext, parallel: ParallelRecipe, device: torch.device) -> None:
        from megavit.distributed.parallelize import make_mesh

        # It gives the advice to gather in another order at every gathering; the order is FSDP2's own.
        logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
        self.ranks, self.tensor, self.places = ranks, parallel.tp, parallel.places
        self.place = ranks.rank // parallel.tp
        self.seeds = (self.place,)
        self.divides = parallel.divides
        self.dtype = torch.float32
        self.mesh: DeviceMesh = make_mesh(parallel.replicate, parallel.fsdp, parallel.tp, device.type)
        self.writers = ranks.beside(parallel.timeout_seconds)
        self.saving: Future[None] | None = None

    @property
    def casts(self) -> bool:
        """Whether a divided model casts its weights itself, so that autocast has nothing to do."""
        return self.divides and self.dtype != torch.float32

    def spread(self, model: MegaVit, *, trained: bool) -> nn.Module:
        """Divide `model` over the processes; the answer is what to call for its forward pass.

        Where no process is to have all of it, it may be on the meta device, and is without values then.
        """
        from megavit.distributed.parallelize import spread

        wrapped = spread(model, self.mesh, trained=trained, dtype=self.dtype)
        if next(model.parameters()).is_meta:
            model.to_empty(device=self.mesh.device_type)
        return wrapped

    def initialize(self, model: MegaVit) -> None:
        """Give a divided `model` its initial values, the same as of a whole one."""
        from megavit.distributed.sharded_init import initialize_divided

        initialize_divided(model, self.tensor)

    def clip(self, model: nn.Module, most: float) -> float:
        """Scale the gradient down to a norm of `most`, over all processes; the norm that it had."""
        from megavit.distributed.dtensor_utils import clip_, mesh_of

        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        if mesh_of(gradients[0]) is None:
            return nn.utils.clip_grad_norm_(model.parameters(), most).item()
        return clip_(gradients, most).item()

    def mean(self, loss: float, norm: float) -> tuple[float, float]:
        """The mean loss over the processes, and the norm, which is NaN if any of them found it not finite."""
        mean, faults = self._sum(loss / self.ranks.world, 0.0 if math.isfinite(norm) else 1.0)
        return mean, math.nan if faults else norm

    def greatest(self, *numbers: float) -> list[float]:
        """The greatest that any process has of each number."""
        import torch.distributed as dist

        together = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(together, op=dist.ReduceOp.MAX)
        return together.tolist()

    def partly(self, model: nn.Module, *, last: bool) -> AbstractContextManager[None]:
        """Around the passes of one part of a step, of which only the `last` one sums gradients over the copies."""
        from megavit.distributed.grad_sync import partly

        return partly(model, last=last)

    def assembled(self, rows: Tensor, chosen: list[int], count: int) -> Tensor:
        """All `count` rows of a table of which this place has those with the numbers `chosen`."""
        import torch.distributed as dist

        table = rows.new_zeros(count, *rows.shape[1:])
        if self.ranks.rank % self.tensor == 0:  # those that compute a layer together have the same
            table[chosen] = rows
        dist.all_reduce(table)
        return table

    def _sum(self, *numbers: float) -> list[float]:
        import torch.distributed as dist

        together = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(together)
        return together.tolist()
