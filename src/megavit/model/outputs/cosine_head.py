"""A head that compares the direction of an image's embedding with that of each class."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CosineHead(nn.Module):
    """A linear layer (B, in_features) -> (B, classes) on the projection of its input, scaled to length 1.

    Args:
        in_features: width of the input.
        projected: width of the projection.
        classes: number of outputs.
    """

    def __init__(self, in_features: int, projected: int, classes: int) -> None:
        super().__init__()
        self.projection = nn.Linear(in_features, projected, bias=False)
        self.weight = nn.Parameter(torch.empty(classes, projected))
        self.bias = nn.Parameter(torch.empty(classes))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.normalize(self.projection(x), dim=-1), self.weight, self.bias)
