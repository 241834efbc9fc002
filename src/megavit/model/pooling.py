"""Pooling of tokens to one vector per image: prefix (B, R, D) and patches (B, N, D) -> (B, D or 2D)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megavit.config.vit import ViTConfig
from megavit.model.kernels.linear import Linear
from megavit.model.layers import make_norm
from megavit.model.mlp import ACTIVATIONS


class ClassTokenPool(nn.Module):
    """Pooling by the class token, the first prefix token."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()

    def forward(self, prefix: Tensor, patches: Tensor) -> Tensor:
        return prefix[:, 0]


class MeanPool(nn.Module):
    """Mean pooling over the patch tokens."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()

    def forward(self, prefix: Tensor, patches: Tensor) -> Tensor:
        return patches.mean(dim=1)


class ClassTokenAndMeanPool(nn.Module):
    """Pooling by the class token and the mean of the patch tokens, concatenated to 2D channels (arXiv 2304.07193)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()

    def forward(self, prefix: Tensor, patches: Tensor) -> Tensor:
        return torch.cat([prefix[:, 0], patches.mean(dim=1)], dim=1)


class AttentionPool(nn.Module):
    """Attention pooling (MAP) by a learned query, then an MLP (arXiv 2106.04560, section 3.2)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.pool_heads
        self.prefix = config.design.pool_prefix
        self.query = nn.Parameter(torch.empty(dim))
        self.to_query = Linear(dim, dim)
        self.to_key_value = Linear(dim, 2 * dim)
        self.out = Linear(dim, dim)
        self.norm = make_norm(config.design, dim)
        self.activate = ACTIVATIONS.get(config.design.mlp, F.gelu)  # GELU in models with SwiGLU
        self.mlp_into = Linear(dim, config.mlp_dim)
        self.mlp_out = Linear(config.mlp_dim, dim)

    def project(self, prefix: Tensor, patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the query (1, H, 1, K), and keys and values (B, H, N or T, K)."""
        query = self.to_query(self.query).view(1, self.heads, 1, -1)
        tokens = torch.cat([prefix, patches], dim=1) if self.prefix else patches
        key, value = self.to_key_value(tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return query, key, value

    def forward(self, prefix: Tensor, patches: Tensor) -> Tensor:
        query, key, value = self.project(prefix, patches)
        pooled = F.scaled_dot_product_attention(query.expand(patches.shape[0], -1, -1, -1), key, value)
        pooled = self.out(pooled.flatten(1))
        return pooled + self.mlp_out(self.activate(self.mlp_into(self.norm(pooled))))


POOLS = {"cls": ClassTokenPool, "mean": MeanPool, "cls_mean": ClassTokenAndMeanPool, "map": AttentionPool}
