"""A model's attention weights, for whoever asks; the model itself keeps its fused attention, and knows nothing of it.

What runs is a copy of the model's modules that shares its weights, with each attention replaced by one that has an
explicit softmax and keeps it. So there is nothing to put back, also after an error, no lock, and other threads may
use the model meanwhile. The copy takes a few milliseconds.
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
    """What was seen of one batch on its way through a model, in the letters of `megavit.model`.

    Attributes:
        logits: (B, outputs), or the pooled features of a model without a head.
        layers: of each layer, first to last, (B, H, T, T): in row i, what token i takes from each token; sums to 1.
        pool: of attention pooling, (B, H, N): what its query takes from each patch; sums to 1. None elsewhere.
        prefix: R, tokens before the patches.
    """

    logits: Tensor
    layers: tuple[Tensor, ...]
    pool: Tensor | None
    prefix: int


def record_attention(model: MegaVit, images: Tensor, *, differentiable: bool = False) -> AttentionRecord:
    """Run `model`, as in evaluation mode, on images (B, C, height, width), normalized, on its device.

    Args:
        differentiable: the logits then have gradients with respect to the weights in the recording, and only to these.

    Raises:
        ValueError: for images that do not fit the model.
    """
    with torch.set_grad_enabled(differentiable):
        copied = copy_of(model)
        layers = [RecordedAttention(cast(Attention | ZetaAttention, layer.attention)) for layer in _layers(copied)]
        for layer, attention in zip(_layers(copied), layers, strict=True):
            layer.attention = attention
        pool = RecordedAttentionPool(copied.pool) if isinstance(copied.pool, AttentionPool) else None
        if pool is not None:
            copied.pool = pool  # pyrefly: ignore[bad-assignment] - it takes and gives the same
        logits = copied(plain(images))
    weights = tuple(attention.weights for attention in layers)
    return AttentionRecord(logits, weights, None if pool is None else pool.weights, model.config.num_prefix_tokens)


class RecordedAttention(nn.Module):
    """The same as an `Attention` or a `ZetaAttention` in evaluation mode, and keeps its `weights` (B, H, T, T)."""

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
    """The same as an `AttentionPool`, and keeps its `weights` (B, H, N or T)."""

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
    return _watched((query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)).softmax(dim=-1))


def _watched(weights: Tensor) -> Tensor:
    """The weights, from which gradients are wanted also where nothing before them has any."""
    return weights.requires_grad_() if torch.is_grad_enabled() else weights


def _layers(model: MegaVit) -> list[nn.Module]:
    return list(model.transformer.layers)


def copy_of(model: MegaVit) -> MegaVit:
    """Modules of its own, in evaluation mode, around the same weights, which get no gradients."""
    shared: dict[int, Tensor] = {id(buffer): plain(buffer) for buffer in model.buffers()}
    shared |= {id(weight): nn.Parameter(plain(weight), requires_grad=False) for weight in model.parameters()}
    return copy.deepcopy(model, shared).eval()


def plain(tensor: Tensor) -> Tensor:
    """The same memory, unless it was made in inference mode and cannot have gradients pass through it."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()
