"""Linear layers whose three matrix products are in float8, scaled by tensor, for GPUs that have such products.

The forward pass multiplies in e4m3, the backward pass gradients in e5m2 by e4m3 (arXiv 2209.05433, section 3).
"""

from typing import Any

import torch
from torch import Tensor, nn

from megavit.model.attention import Attention
from megavit.model.mlp import FeedForward
from megavit.model.vit import MegaVit

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2


def product(a: Tensor, b: Tensor, a_dtype: torch.dtype = E4M3) -> Tensor:
    """Return the bfloat16 product of `a` (M, K) and `b` (K, N), multiplied in float8."""
    a, a_scale = scaled(a, a_dtype)
    b, b_scale = scaled(b, E4M3)
    # The kernel wants rows of the first and columns of the second to be contiguous.
    columns = b.t().contiguous().t()
    return torch._scaled_mm(a.contiguous(), columns, scale_a=a_scale, scale_b=b_scale, out_dtype=torch.bfloat16)


def scaled(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return `x` in float8, over the whole range of `dtype`, and the scale that it is to be multiplied by."""
    limit = torch.finfo(dtype).max
    scale = x.detach().abs().amax().float().clamp(min=1e-12) / limit
    return (x.float() / scale).clamp(-limit, limit).to(dtype), scale


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        rows = x.flatten(0, -2)
        ctx.save_for_backward(rows, weight)
        ctx.shape = x.shape
        return product(rows, weight.t()).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        rows, weight = ctx.saved_tensors
        gradient = gradients[0].flatten(0, -2)
        to_input = product(gradient, weight, E5M2).view(ctx.shape)
        return to_input, product(gradient.t(), rows, E5M2).to(weight.dtype)


class Float8Linear(nn.Linear):
    """A linear layer that multiplies in float8."""

    def forward(self, input: Tensor) -> Tensor:
        x = _Product.apply(input.to(torch.bfloat16), self.weight)
        return x if self.bias is None else x + self.bias.to(x.dtype)


def use_float8(model: MegaVit) -> None:
    """Make the projections of all layers multiply in float8; their weights stay the same parameters."""
    for module in model.modules():
        match module:
            case Attention():
                projections = [module.to_qkv, module.out]
            case FeedForward():
                projections = [module.into, module.out]
            case _:
                continue
        for projection in projections:
            projection.__class__ = Float8Linear  # pyrefly: ignore[bad-argument-type] - of the same attributes
