"""A linear layer that is computed in parts, so that rows that are added to it do not change how others are rounded."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SplitLinear(nn.Module):
    """A linear layer (..., in_features) -> (..., sum(parts)) whose parts are computed one by one.

    How a library rounds a product depends on the number of rows, so that a wider layer gives other last digits for the
    same rows. A part gives those that it would give alone.

    Args:
        in_features: width of the input.
        parts: number of rows of each part, in order.
    """

    def __init__(self, in_features: int, parts: Sequence[int]) -> None:
        super().__init__()
        self.parts = tuple(parts)
        self.weight = nn.Parameter(torch.empty(sum(self.parts), in_features))
        self.bias = nn.Parameter(torch.empty(sum(self.parts)))

    def forward(self, x: Tensor) -> Tensor:
        parts = zip(self.weight.split(self.parts), self.bias.split(self.parts), strict=True)
        return torch.cat([F.linear(x, weight, bias) for weight, bias in parts], dim=-1)
