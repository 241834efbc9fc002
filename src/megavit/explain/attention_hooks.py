"""Record a model's attention weights without changing the model.

A temporary copy that shares the model's weights is run, with each attention replaced by an explicit softmax that is
recorded. Nothing needs to be restored or locked, even after an error; copying takes a few milliseconds.
"""

import copy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from megavit.model.attention import Attention
from megavit.model.layers import first_tokens
from megavit.model.packing import Packing
from megavit.model.pooling import AttentionPool
from megavit.model.pos_embed import Rotation
from megavit.model.vit import MegaVit
from megavit.model.zeta import ZetaAttention


@dataclass(frozen=True)
class AttentionRecord:
    """Attention weights and logits of one batch, in the shape letters of `megavit.model`.

    Attributes:
        logits: (B, outputs), or the pooled features if the model has no head.
        layers: attention weights (B, H, T, T) of each layer, first to last; row i is for query i and sums to 1.
        pool: weights of attention pooling (B, H, N or T), summing to 1; None for other pooling.
        prefix: R, number of tokens before the patches.
    """

    logits: Tensor
    layers: tuple[Tensor, ...]
    pool: Tensor | None
    prefix: int


def record_attention(model: MegaVit, images: Tensor, *, differentiable: bool = False) -> AttentionRecord:
    """Return the attention weights and logits of `model` for normalized images (B, C, height, width).

    Args:
        model: a model in any mode; it runs in evaluation mode.
        images: images on the model's device; a ValueError is raised if they do not fit the model.
        differentiable: whether the logits have gradients with respect to the recorded weights, and only to these.
    """
    with torch.set_grad_enabled(differentiable):
        copied = copy_sharing_weights(model)
        layers = [RecordedAttention(cast(Attention | ZetaAttention, layer.attention)) for layer in _layers(copied)]
        for layer, attention in zip(_layers(copied), layers, strict=True):
            layer.attention = attention
        pool = RecordedAttentionPool(copied.pool) if isinstance(copied.pool, AttentionPool) else None
        if pool is not None:
            copied.pool = pool  # pyrefly: ignore[bad-assignment] - it has the same signature
        logits = copied.mlp_head(copied.features(detach(images)).pooled)  # by all tokens
    weights = tuple(attention.weights for attention in layers)
    return AttentionRecord(logits, weights, None if pool is None else pool.weights, model.config.num_prefix_tokens)


class RecordedAttention(nn.Module):
    """An `Attention` or `ZetaAttention` in evaluation mode that stores its `weights` (B, H, T, T)."""

    weights: Tensor

    def __init__(self, attention: Attention | ZetaAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        packing: Packing | None = None,
        num_outputs: int | None = None,
    ) -> Tensor:
        attention = self.attention
        query, key, value = attention.project(x, rotation)
        query = first_tokens(query, num_outputs)
        self.weights = _weights(query, key)
        mixed = (self.weights.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        return attention.out(mixed if isinstance(attention, ZetaAttention) else attention.out_norm(mixed))


class RecordedAttentionPool(nn.Module):
    """An `AttentionPool` that stores its `weights` (B, H, N or T)."""

    weights: Tensor

    def __init__(self, pool: AttentionPool) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, prefix: Tensor, patches: Tensor) -> Tensor:
        pool = self.pool
        query, key, value = pool.project(prefix, patches)
        self.weights = _weights(query, key)[:, :, 0]
        pooled = pool.out((self.weights[:, :, None] @ value).flatten(1))
        return pooled + pool.mlp_out(pool.activate(pool.mlp_into(pool.norm(pooled))))


def _weights(query: Tensor, key: Tensor) -> Tensor:
    weights = (query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)).softmax(dim=-1)
    # Leaves of the autograd graph, as nothing before them requires gradients.
    return weights.requires_grad_() if torch.is_grad_enabled() else weights


def _layers(model: MegaVit) -> list[nn.Module]:
    return list(model.transformer.layers)


def copy_sharing_weights(model: MegaVit) -> MegaVit:
    """Return a copy in evaluation mode that shares the weights, without gradients for them."""
    shared: dict[int, Tensor] = {id(buffer): detach(buffer) for buffer in model.buffers()}
    shared |= {id(weight): nn.Parameter(detach(weight), requires_grad=False) for weight in model.parameters()}
    return copy.deepcopy(model, shared).eval()


def detach(tensor: Tensor) -> Tensor:
    """Return a detached tensor, cloned if it was made in inference mode, which has no gradients."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()
