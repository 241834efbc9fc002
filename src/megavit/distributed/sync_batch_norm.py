"""Batch norm by the statistics of all processes; PyTorch's own is for GPUs only."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megavit.distributed.differentiable import all_reduce_mean


class SyncBatchNorm(nn.Module):
    """A `megavit.model.layers.BatchNorm` over the tokens of all processes, which are as many in each.

    Parameters, buffers and, up to rounding, results are those of one process with all tokens.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("mean", torch.empty(width))
        self.register_buffer("variance", torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized tokens (..., D); in training a collective operation."""
        rows = x.float().flatten(0, -2)
        if not self.training:
            normed = F.batch_norm(rows, self.mean, self.variance, self.weight, self.bias, eps=self.eps)
            return normed.view_as(x)
        mean = all_reduce_mean(rows.mean(dim=0))
        # In two passes, as the difference of two large numbers would be inexact.
        variance = all_reduce_mean((rows - mean).square().mean(dim=0))
        with torch.no_grad():
            count = len(rows) * torch.distributed.get_world_size()
            self.mean.copy_(mean)
            self.variance.copy_(variance * (count / (count - 1)))
        normed = (rows - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias
        return normed.view_as(x)
