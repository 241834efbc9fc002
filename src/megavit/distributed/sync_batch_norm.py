"""Batch norm by the statistics of all processes; PyTorch's own is for GPUs only."""

import torch
from torch import Tensor

from megavit.distributed.differentiable import all_reduce_mean
from megavit.model.layers import BatchNorm


class SyncBatchNorm(BatchNorm):
    """A `BatchNorm` over the tokens of all processes, which are as many in each.

    Parameters, buffers and, up to rounding, results are those of one process with all tokens.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized tokens (..., D); in training a collective operation."""
        if not self.training:
            return super().forward(x)
        rows = x.float().flatten(0, -2)
        mean = all_reduce_mean(rows.mean(dim=0))
        # In two passes, as the difference of two large numbers would be inexact.
        variance = all_reduce_mean((rows - mean).square().mean(dim=0))
        with torch.no_grad():
            count = len(rows) * torch.distributed.get_world_size()
            self.mean.copy_(mean)
            self.variance.copy_(variance * (count / (count - 1)))
        normed = (rows - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias
        return normed.view_as(x)
