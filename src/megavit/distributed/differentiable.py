"""The mean over processes of a tensor that gradients flow through, for losses of the global batch."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def all_reduce_mean(tensor: Tensor) -> Tensor:
    """Return the mean of `tensor` over all processes, the same in each; a collective operation, its gradient too.

    If each process has a loss of its own and parameters' gradients are averaged, as by DDP, they are those of the mean
    loss.
    """
    return _AllReduceMean.apply(tensor)


class _AllReduceMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.world_size = dist.get_world_size()
        return _mean(tensor, ctx.world_size)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        return _mean(grad_outputs[0], ctx.world_size)


def _mean(tensor: Tensor, world_size: int) -> Tensor:
    mean = (tensor / world_size).contiguous()
    dist.all_reduce(mean)
    return mean
