"""A layer's MLP and self-attention in bfloat16 on a CPU, with less to copy than by separate operations.

The values and gradients are those of the separate operations. The gradient of GELU takes the place of its output's, and
those of queries, keys and values are written next to each other, instead of being stacked. As of PyTorch's own fused
attention, the gradients have no gradients.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from megavit.model.kernels.linear import Linear, find_dtype, multiply

Gradients = tuple[Tensor | None, ...]


def can_join(x: Tensor, *layers: Linear) -> bool:
    """Return whether layers that follow each other on `x` multiply in bfloat16 by oneDNN, and nobody observes them."""
    return x.shape[-1] == layers[0].in_features and all(
        type(layer) is Linear  # not with a parametrization, which would be computed again
        and layer.bias is not None
        and not (layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)
        and find_dtype(x, layer.weight) == torch.bfloat16
        for layer in layers
    )


def gelu_mlp(x: Tensor, into: Linear, out: Linear) -> Tensor:
    """Return `out(gelu(into(x)))` for layers that `can_join` allows: (..., D) -> (..., D)."""
    tensors = (x, into.weight, into.bias, out.weight, out.bias)
    return _GeluMLP.apply(*(tensor.to(torch.bfloat16) for tensor in tensors))


def can_attend(qkv: Tensor) -> bool:
    """Return whether `self_attention` computes this on a CPU with bfloat16."""
    return qkv.dtype == torch.bfloat16 and qkv.ndim == 3 and find_dtype(qkv, qkv) == torch.bfloat16


def self_attention(qkv: Tensor, heads: int) -> Tensor:
    """Return softmax(Q Kᵀ / √K) V of queries, keys and values (B, T, 3 · H · K) as (B, T, H · K)."""
    return _SelfAttention.apply(qkv, heads)


class _GeluMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:  # pyrefly: ignore[bad-override]
        x, into, into_bias, out, out_bias = inputs
        hidden = multiply(x, into, into_bias)
        activated = F.gelu(hidden)
        ctx.save_for_backward(x, into, out, hidden, activated)
        return multiply(activated, out, out_bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Gradients:  # pyrefly: ignore[bad-override]
        x, into, out, hidden, activated = ctx.saved_tensors
        needs_x, needs_into, needs_into_bias, needs_out, needs_out_bias = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)
        to_out = rows.t() @ activated.flatten(0, -2) if needs_out else None
        to_out_bias = rows.sum(0) if needs_out_bias else None
        if not (needs_x or needs_into or needs_into_bias):
            return None, None, None, to_out, to_out_bias
        inner = rows @ out
        torch.ops.aten.gelu_backward.grad_input(inner, hidden.view_as(inner), grad_input=inner)
        return (
            (inner @ into).view_as(x) if needs_x else None,
            inner.t() @ x.flatten(0, -2) if needs_into else None,
            inner.sum(0) if needs_into_bias else None,
            to_out,
            to_out_bias,
        )


class _SelfAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, heads: int) -> Tensor:  # pyrefly: ignore[bad-override]
        ctx.shape = batch, tokens, _, _, width = (*qkv.shape[:2], 3, heads, qkv.shape[2] // (3 * heads))
        parts = qkv.view(ctx.shape).permute(2, 0, 3, 1, 4).clone(memory_format=torch.contiguous_format).flatten(1, 2)
        query, key, value = parts
        query *= width**-0.5
        weights = torch.bmm(query, key.mT).softmax(-1)
        ctx.save_for_backward(parts, weights)
        return torch.bmm(weights, value).view(batch, heads, tokens, width).transpose(1, 2).flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Gradients:  # pyrefly: ignore[bad-override]
        parts, weights = ctx.saved_tensors
        batch, tokens, _, heads, width = ctx.shape
        query, key, value = parts
        mixed = gradient.reshape(batch, tokens, heads, width).transpose(1, 2).flatten(0, 1)
        found = torch.empty_like(parts)
        torch.bmm(weights.mT, mixed, out=found[2])
        scores = torch._softmax_backward_data(torch.bmm(mixed, value.mT), weights, -1, weights.dtype)
        torch.bmm(scores, key, out=found[0]).mul_(width**-0.5)
        torch.bmm(scores.mT, query, out=found[1])
        return found.view(3, batch, heads, tokens, width).permute(1, 3, 0, 2, 4).reshape(batch, tokens, -1), None
