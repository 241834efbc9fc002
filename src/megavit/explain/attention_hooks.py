"""Record a model's attention weights, while the model itself keeps its fused attention.

A copy of the model's modules that shares its weights is run, with each attention replaced by one that has an explicit
softmax and keeps it. So there is nothing to restore, even after an error, no lock, and other threads may use the model
meanwhile. The copy takes a few milliseconds.
"""

import copy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from megavit.model.attention import Attention
from megavit.model.packing import Packing
from megavit.model.pooling import AttentionPool
from megavit.model.pos_embed import Rotation
from megavit.model.vit import MegaVit
from megavit.model.zeta import ZetaAttention


@dataclass(frozen=True)
class AttentionRecord:
    """Attention weights and logits of one batch, in the shape letters of `megavit.model`.

    Attributes:
        logits: (B, outputs), or the pooled features of a model without a head.
        layers: weights of each layer, first to last, (B, H, T, T): in row i those of query i; sums to 1.
        pool: weights of attention pooling, (B, H, N or T), sums to 1; None for other pooling.
        prefix: R, tokens before the patches.
    """

    logits: Tensor
    layers: tuple[Tensor, ...]
    pool: Tensor | None
    prefix: int


def record_attention(model: MegaVit, images: Tensor, *, differentiable: bool = False) -> AttentionRecord:
    """Run `model`, as in evaluation mode, on images (B, C, height, width), normalized, on its device.

    Args:
        differentiable: give the logits gradients with respect to the recorded weights, and only to these.

    Raises:
        ValueError: for images that do not fit the model.
    """
    with torch.set_grad_enabled(differentiable):
        copied = copy_sharing_weights(model)
        layers = [RecordedAttention(cast(Attention | ZetaAttention, layer.attention)) for layer in _layers(copied)]
        for layer, attention in zip(_layers(copied), layers, strict=True):
            layer.attention = attention
        pool = RecordedAttentionPool(copied.pool) if isinstance(copied.pool, AttentionPool) else None
        if pool is not None:
            copied.pool = pool  # pyrefly: ignore[bad-assignment] - it has the same signature
        logits = copied(detach(images))
    weights = tuple(attention.weights for attention in layers)
    return AttentionRecord(logits, weights, None if pool is None else pool.weights, model.config.num_prefix_tokens)


class RecordedAttention(nn.Module):
    """An `Attention` or `ZetaAttention` in evaluation mode that keeps its `weights` (B, H, T, T)."""

    weights: Tensor

    def __init__(self, attention: Attention | ZetaAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor, rotation: Rotation | None = None, packing: Packing | None = None) -> Tensor:
        attention = self.attention
        query, key, value = attention.project(x, rotation)
        self.weights = _weights(query, key)
        mixed = (self.weights.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        return attention.out(mixed if isinstance(attention, ZetaAttention) else attention.out_norm(mixed))


class RecordedAttentionPool(nn.Module):
    """An `AttentionPool` that keeps its `weights` (B, H, N or T)."""

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
    # Although nothing before them has gradients.
    return weights.requires_grad_() if torch.is_grad_enabled() else weights


def _layers(model: MegaVit) -> list[nn.Module]:
    return list(model.transformer.layers)


def copy_sharing_weights(model: MegaVit) -> MegaVit:
    """Return a copy in evaluation mode that shares the weights, which get no gradients."""
    shared: dict[int, Tensor] = {id(buffer): detach(buffer) for buffer in model.buffers()}
    shared |= {id(weight): nn.Parameter(detach(weight), requires_grad=False) for weight in model.parameters()}
    return copy.deepcopy(model, shared).eval()


def detach(tensor: Tensor) -> Tensor:
    """Detach a tensor; clone it if it was made in inference mode, through which no gradients can pass."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()
