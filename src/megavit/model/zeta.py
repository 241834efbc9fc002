"""The layer of zetascale's MegaVit, only for weights that were trained with it.

It is less stable than the other blocks: a norm replaces the residual stream, both branches normalize again, and keys
and values are normalized rather than queries and keys. zetascale shares one norm between all layers and the end of
the model; here each has a copy, so that layers stay independent.
"""

from torch import Tensor, nn

from megavit.config.vit import ViTConfig
from megavit.model.attention import attend, attend_packed
from megavit.model.kernels.linear import Linear
from megavit.model.layers import first_tokens, make_norm
from megavit.model.mlp import FeedForward
from megavit.model.packing import Packing
from megavit.model.pos_embed import Rotation


class ZetaAttention(nn.Module):
    """Multi-head softmax(Q norm(K)ᵀ / √K) norm(V) with an output projection: (B, T, D) -> (B, T, D)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        inner = config.heads * config.dim_head
        self.heads = config.heads
        self.dropout = config.dropout
        self.to_qkv = Linear(config.dim, 3 * inner, bias=False)
        self.key_norm = make_norm(config.design, config.dim_head)
        self.value_norm = make_norm(config.design, config.dim_head)
        self.out = Linear(inner, config.dim)
        self.out_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, packing: Packing | None = None, num_outputs: int | None = None) -> Tensor:
        query, key, value = self.project(x)
        query = first_tokens(query, num_outputs)
        dropout = self.dropout if self.training else 0.0
        if packing is None:
            mixed = attend(query, key, value, dropout)
        else:
            mixed = attend_packed(query, key, value, packing, dropout)
        return self.out_dropout(self.out(mixed.transpose(1, 2).flatten(2)))

    def project(self, x: Tensor, rotation: Rotation | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values after normalization, each (B, H, T, K); `rotation` is ignored."""
        query, key, value = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # Norms return float32 under autocast.
        return query, self.key_norm(key).to(query.dtype), self.value_norm(value).to(query.dtype)


class ZetaBlock(nn.Module):
    """A layer n + attention(norm(n)) + mlp(norm(n)), with n = stream_norm(x): (B, T, D) -> (B, T, D)."""

    def __init__(self, config: ViTConfig, drop_path: float) -> None:
        super().__init__()
        self.stream_norm = make_norm(config.design, config.dim)
        self.attention_norm = make_norm(config.design, config.dim)
        self.attention = ZetaAttention(config)
        self.mlp_norm = make_norm(config.design, config.dim)
        self.mlp = FeedForward(config)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        packing: Packing | None = None,
        num_outputs: int | None = None,
    ) -> Tensor:
        x = self.stream_norm(x)
        attended = self.attention(self.attention_norm(x), packing=packing, num_outputs=num_outputs)
        x = first_tokens(x, num_outputs)
        return x + attended + self.mlp(self.mlp_norm(x))
