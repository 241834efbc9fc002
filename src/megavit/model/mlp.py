"""The MLP of a transformer layer."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megavit.config.vit import ViTConfig
from megavit.model.kernels.bfloat16 import can_join, gelu_mlp
from megavit.model.kernels.linear import Linear
from megavit.model.layers import make_norm

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu2": lambda x: F.relu(x).square(),
}


class FeedForward(nn.Module):
    """A two-layer MLP for each token, optionally SwiGLU (arXiv 2002.05202): (B, T, D) -> (B, T, D)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.mlp = config.design.mlp
        self.is_plain = self.mlp == "gelu" and not config.design.mlp_out_norm
        # SwiGLU computes (gate | value).
        self.into = Linear(config.dim, config.mlp_dim * (2 if self.mlp == "swiglu" else 1))
        self.dropout = nn.Dropout(config.dropout)
        self.out_norm = make_norm(config.design, config.mlp_dim) if config.design.mlp_out_norm else nn.Identity()
        self.out = Linear(config.mlp_dim, config.dim)
        self.out_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        drops = self.training and self.dropout.p > 0
        if self.is_plain and not drops and can_join(x, self.into, self.out):
            return gelu_mlp(x, self.into, self.out)
        hidden = self.dropout(self.activate(self.into(x)))
        return self.out_dropout(self.out(self.out_norm(hidden)))

    def activate(self, hidden: Tensor) -> Tensor:
        if self.mlp == "swiglu":
            gate, value = hidden.chunk(2, dim=-1)
            return F.silu(gate) * value
        return ACTIVATIONS[self.mlp](hidden)
