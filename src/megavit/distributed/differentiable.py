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
    def forward(_ctx: Any, tensor: Tensor) -> Tensor:
        return _mean(tensor)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        return _mean(*gradients)


def _mean(tensor: Tensor) -> Tensor:
    mean = (tensor / dist.get_world_size()).contiguous()
    dist.all_reduce(mean)
    return mean
