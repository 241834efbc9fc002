"""From tokens to one vector an image: (prefix (B, R, D), patches (B, N, D)) -> (B, D)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megavit.config.vit import ViTConfig
from megavit.model.mlp import ACTIVATIONS
from megavit.model.norm import make_norm


class ClassTokenPool(nn.Module):
    """The class token."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()

    def forward(self, prefix: Tensor, patches: Tensor) -> Tensor:
        return prefix[:, 0]


class MeanPool(nn.Module):
    """The mean of the patch tokens alone."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()

    def forward(self, prefix: Tensor, patches: Tensor) -> Tensor:
        return patches.mean(dim=1)


class AttentionPool(nn.Module):
    """A learned query attends to the patches, or to all tokens, then an MLP (arXiv 2106.04560, section 3.2: MAP)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.pool_heads
        self.prefix = config.design.pool_prefix
        self.query = nn.Parameter(torch.empty(dim))
        self.to_query = nn.Linear(dim, dim)
        self.to_key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm = make_norm(config.design, dim)
        self.activate = ACTIVATIONS.get(config.design.mlp, F.gelu)  # papers know no SwiGLU here
        self.mlp_into = nn.Linear(dim, config.mlp_dim)
        self.mlp_out = nn.Linear(config.mlp_dim, dim)

    def seen(self, prefix: Tensor, patches: Tensor) -> Tensor:
        """The tokens that the query attends to, (B, N or T, D)."""
        return torch.cat([prefix, patches], dim=1) if self.prefix else patches

    def forward(self, prefix: Tensor, patches: Tensor) -> Tensor:
        batch = patches.shape[0]
        query = self.to_query(self.query).view(1, self.heads, 1, -1).expand(batch, -1, -1, -1)
        key, value = (
            self.to_key_value(self.seen(prefix, patches)).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        pooled = F.scaled_dot_product_attention(query, key, value)
        pooled = self.out(pooled.flatten(1))
        return pooled + self.mlp_out(self.activate(self.mlp_into(self.norm(pooled))))


POOLS = {"cls": ClassTokenPool, "mean": MeanPool, "map": AttentionPool}
