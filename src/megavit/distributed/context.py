"""Parallelism of a training run: its device mesh, and the collectives of the training loop."""

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


class ParallelContext:
    """The parallelism of a training run; by default that of a single process, without communication.

    Every method is a collective: all processes must call it at the same time.

    Attributes:
        mesh: device mesh (replicate, shard, tensor); None for a single process.
        dp_rank, dp_world_size: data-parallel rank of this process, and number of data-parallel ranks.
        tp_size: tensor-parallel size.
        is_sharded: whether the model is sharded by FSDP or tensor parallelism.
        seed_suffix: numbers appended to a step's seed, so that data-parallel ranks draw different random numbers.
        param_dtype: data type in which a sharded model gathers its weights and computes.
        save_group: separate process group for checkpoints written in the background.
        pending_save: future of the checkpoint being written, or None.
    """

    def __init__(
        self,
        dist: DistContext | None = None,
        recipe: ParallelRecipe | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.dist = dist or DistContext()
        recipe = recipe or ParallelRecipe()
        self.tp_size, self.dp_world_size, self.is_sharded = recipe.tp, recipe.dp_world_size, recipe.is_sharded
        self.dp_rank = self.dist.rank // recipe.tp
        self.seed_suffix: tuple[int, ...] = ()
        self.param_dtype = torch.float32
        self.mesh: DeviceMesh | None = None
        self.save_group = self.dist
        self.pending_save: Future[None] | None = None
        if self.dist.is_distributed:
            from megavit.distributed.parallelize import make_mesh

            # Silence advice on the gathering order, which FSDP2 determines.
            logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
            self.seed_suffix = (self.dp_rank,)
            kind = device.type if device else "cpu"
            self.mesh = make_mesh(recipe.replicate, recipe.fsdp, recipe.tp, kind)
            self.save_group = self.dist.new_group(recipe.timeout_seconds)

    @property
    def casts_weights(self) -> bool:
        """Whether a sharded model casts its weights itself, so that autocast is not needed."""
        return self.is_sharded and self.param_dtype != torch.float32

    def parallelize(self, model: MegaVit, *, trained: bool) -> nn.Module:
        """Parallelize `model` in place, and return the module to call for its forward pass.

        A model to be sharded may be on the meta device, without values. If `trained`, gradients are averaged.
        """
        if self.mesh is None:
            return model
        from megavit.distributed.parallelize import parallelize

        wrapped = parallelize(model, self.mesh, trained=trained, dtype=self.param_dtype)
        if next(model.parameters()).is_meta:
            model.to_empty(device=self.mesh.device_type)
        return wrapped

    def init_weights(self, model: MegaVit) -> None:
        """Initialize a sharded `model` with the same values as an unsharded one."""
        from megavit.distributed.sharded_init import init_sharded_weights

        init_sharded_weights(model, self.tp_size)

    def clip_grad_norm(self, model: nn.Module, max_norm: float) -> Tensor:
        """Clip the global gradient norm to `max_norm` in place, and return the norm () before clipping."""
        if not self.is_sharded:
            return nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        from megavit.distributed.dtensor_utils import clip_grad_norm_

        return clip_grad_norm_([p.grad for p in model.parameters() if p.grad is not None], max_norm)

    def all_reduce_mean(self, loss: float, norm: float) -> tuple[float, float]:
        """Return the mean loss over the processes, and the norm, or NaN if it is nonfinite in any process."""
        if self.mesh is None:
            return loss, norm
        import torch.distributed as dist

        sums = torch.tensor([loss / self.dist.world_size, 0.0 if math.isfinite(norm) else 1.0], dtype=torch.float64)
        dist.all_reduce(sums)
        mean, nonfinite = sums.tolist()
        return mean, math.nan if nonfinite else norm

    def all_reduce_max(self, *numbers: float) -> list[float]:
        """Return the maximum of each number over the processes."""
        if self.mesh is None:
            return list(numbers)
        import torch.distributed as dist

        maxima = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(maxima, op=dist.ReduceOp.MAX)
        return maxima.tolist()

    def all_reduce_mean_with_gradient(self, tensor: Tensor) -> Tensor:
        """Return the mean of `tensor` over the processes, whose gradient is the mean of theirs."""
        if self.mesh is None:
            return tensor
        from megavit.distributed.differentiable import all_reduce_mean

        return all_reduce_mean(tensor)

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Return `tensor` of the main process in every process; all have one of the same shape."""
        if self.mesh is not None:
            import torch.distributed as dist

            dist.broadcast(tensor, src=0)
        return tensor

    def no_sync(self, model: nn.Module, *, enabled: bool) -> AbstractContextManager[None]:
        """Return a context for the passes of a micro-batch; if `enabled`, gradients are not averaged yet."""
        if self.mesh is None:
            return nullcontext()
        from megavit.distributed.grad_sync import no_sync

        return no_sync(model, enabled=enabled)

    def all_gather_rows(self, rows: Tensor, indices: list[int], count: int) -> Tensor:
        """Return all `count` rows of a table, of which this data-parallel rank has `rows` at `indices`."""
        if self.mesh is None:
            return rows
        import torch.distributed as dist

        table = rows.new_zeros(count, *rows.shape[1:])
        if self.dist.rank % self.tp_size == 0:  # tensor-parallel ranks have the same rows
            table[indices] = rows
        dist.all_reduce(table)
        return table
