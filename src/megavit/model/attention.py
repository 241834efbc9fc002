"""Multi-head self-attention with optional query-key normalization (ViT-22B, arXiv 2302.05442, section 2.1)."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megavit.config.vit import ViTConfig
from megavit.model.kernels.bfloat16 import can_attend, self_attention
from megavit.model.kernels.linear import Linear
from megavit.model.layers import first_tokens, make_norm, make_token_norm
from megavit.model.packing import Packing
from megavit.model.pos_embed import Rotation, rotate

# Up to this many tokens, two matrix products are 1.6 to 10 times faster than the fused kernel on a CPU in bfloat16 (not
# in float32), as measured on Zen 4 with `benchmarks/speed/attention_on_cpu.py`.
MAX_EAGER_TOKENS = 256


class Attention(nn.Module):
    """Multi-head self-attention with an output projection: (B, T, D) -> (B, T, D), or the first `num_outputs` tokens.

    `to_qkv`'s outputs are ordered (query | key | value, head, channel).
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        design = config.design
        inner = config.heads * config.dim_head
        self.heads = config.heads
        self.dropout = config.dropout
        self.is_normed = design.qk_norm
        self.to_qkv = Linear(config.dim, 3 * inner, bias=design.qkv_bias)
        self.query_norm = make_token_norm(design, config.dim_head) if design.qk_norm else nn.Identity()
        self.key_norm = make_token_norm(design, config.dim_head) if design.qk_norm else nn.Identity()
        self.out_norm = make_norm(design, inner) if design.attention_out_norm else nn.Identity()
        self.out = Linear(inner, config.dim)
        self.out_dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        packing: Packing | None = None,
        num_outputs: int | None = None,
    ) -> Tensor:
        qkv, dropout = self.to_qkv(x), self.dropout if self.training else 0.0
        is_plain = not self.is_normed and rotation is None and packing is None and num_outputs is None and not dropout
        if is_plain and x.shape[1] <= MAX_EAGER_TOKENS and can_attend(qkv):
            mixed = self_attention(qkv, self.heads)
        else:
            query, key, value = self.split(qkv, rotation)
            query = first_tokens(query, num_outputs)
            if packing is None:
                mixed = attend(query, key, value, dropout)
            else:
                mixed = attend_packed(query, key, value, packing, dropout)
            mixed = mixed.transpose(1, 2).flatten(2)
        return self.out_dropout(self.out(self.out_norm(mixed)))

    def project(self, x: Tensor, rotation: Rotation | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values after normalization and rotation, each (B, H, T, K)."""
        return self.split(self.to_qkv(x), rotation)

    def split(self, qkv: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return `project`'s queries, keys and values from the output of `to_qkv`."""
        query, key, value = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = self.query_norm(query), self.key_norm(key)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        # Norms and rotations return float32 under autocast.
        return query.to(value.dtype), key.to(value.dtype), value


def attend(query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
    """Return softmax(Q Kᵀ / √K) V for inputs (B, H, T, K), with the faster kernel on this device."""
    bfloat16_on_cpu = query.device.type == "cpu" and query.dtype == torch.bfloat16
    if bfloat16_on_cpu and query.shape[2] <= MAX_EAGER_TOKENS:
        return attend_eager(query, key, value, dropout)
    return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)


def attend_eager(query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
    """Return softmax(Q Kᵀ / √K) V by two matrix products, with the attention weights in memory."""
    weights = (query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)).softmax(dim=-1)
    return F.dropout(weights, dropout).to(value.dtype) @ value


def attend_packed(query: Tensor, key: Tensor, value: Tensor, packing: Packing, dropout: float = 0.0) -> Tensor:
    """Return softmax(Q Kᵀ / √K) V for inputs (1, H, T, K), within each image of `packing`.

    Without dropout, on a GPU that supports it, one variable-length kernel handles all images; else images of one length
    form a batch. A mask would compute attention between all images: see `benchmarks/speed/packing.py`.
    """
    tokens_first = [x.transpose(1, 2) for x in (query, key, value)]
    if not dropout and can_use_varlen(query):
        from torch.nn.attention.varlen import varlen_attn

        starts, max_tokens = packing.starts, packing.max_tokens
        q, k, v = (x[0].contiguous() for x in tokens_first)
        return cast(Tensor, varlen_attn(q, k, v, starts, starts, max_tokens, max_tokens))[None].transpose(1, 2)
    groups = zip(*([part.transpose(1, 2) for part in packing.split(x)] for x in tokens_first), strict=True)
    mixed = [attend(q, k, v, dropout).transpose(1, 2) for q, k, v in groups]
    return packing.join(mixed).transpose(1, 2)


def can_use_varlen(query: Tensor) -> bool:
    """Return whether PyTorch's variable-length attention supports these: half precision on Ampere or newer."""
    return (
        query.device.type == "cuda"
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 256
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )
