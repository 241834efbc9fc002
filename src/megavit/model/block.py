"""Transformer layers: parallel (ViT-22B, the default), serial (the original ViT) and zetascale's.

A layer's tokens can be all that is computed, or only its first `num_outputs`, which attend to all the same.
"""

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from megavit.config.vit import ViTConfig
from megavit.model.attention import Attention
from megavit.model.layers import DropPath, first_tokens, make_layer_scale, make_norm
from megavit.model.mlp import FeedForward
from megavit.model.packing import Packing
from megavit.model.pos_embed import Rotation
from megavit.model.zeta import ZetaBlock


class ParallelBlock(nn.Module):
    """A layer x + attention(n) + mlp(n), n = norm(x) (arXiv 2302.05442, equation 1): (B, T, D) -> (B, T, D)."""

    def __init__(self, config: ViTConfig, drop_path: float) -> None:
        super().__init__()
        self.norm = make_norm(config.design, config.dim)
        self.attention = Attention(config)
        self.attention_scale = make_layer_scale(config)
        self.mlp = FeedForward(config)
        self.mlp_scale = make_layer_scale(config)
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        packing: Packing | None = None,
        num_outputs: int | None = None,
    ) -> Tensor:
        normed = self.norm(x)
        attended = self.attention_scale(self.attention(normed, rotation, packing, num_outputs))
        x, normed = first_tokens(x, num_outputs), first_tokens(normed, num_outputs)
        return x + self.drop_path(attended + self.mlp_scale(self.mlp(normed)), packing)


class SerialBlock(nn.Module):
    """A layer x + attention(norm(x)), then x + mlp(norm(x)) (arXiv 2010.11929, eq. 2, 3): (B, T, D) -> (B, T, D)."""

    def __init__(self, config: ViTConfig, drop_path: float) -> None:
        super().__init__()
        self.attention_norm = make_norm(config.design, config.dim)
        self.attention = Attention(config)
        self.attention_scale = make_layer_scale(config)
        self.mlp_norm = make_norm(config.design, config.dim)
        self.mlp = FeedForward(config)
        self.mlp_scale = make_layer_scale(config)
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        packing: Packing | None = None,
        num_outputs: int | None = None,
    ) -> Tensor:
        attended = self.attention_scale(self.attention(self.attention_norm(x), rotation, packing, num_outputs))
        x = first_tokens(x, num_outputs) + self.drop_path(attended, packing)
        return x + self.drop_path(self.mlp_scale(self.mlp(self.mlp_norm(x))), packing)


BLOCKS = {"parallel": ParallelBlock, "serial": SerialBlock, "zeta": ZetaBlock}


class Transformer(nn.Module):
    """A stack of `depth` transformer layers: (B, T, D) -> (B, T, D).

    Attributes:
        gradient_checkpointing: whether training recomputes each layer in the backward pass (arXiv 1604.06174).
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        block = BLOCKS[config.design.block]
        last = max(1, config.depth - 1)
        self.layers = nn.ModuleList(block(config, config.design.drop_path * i / last) for i in range(config.depth))
        self.gradient_checkpointing = False

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        packing: Packing | None = None,
        num_outputs: int | None = None,
    ) -> Tensor:
        """Return all tokens (B, T, D), or only the first `num_outputs` of images that are not packed."""
        recompute = self.gradient_checkpointing and self.training
        last = self.layers[-1]
        for layer in self.layers:
            arguments = (x, rotation, packing, num_outputs if layer is last else None)
            x = checkpoint(layer, *arguments, use_reentrant=False) if recompute else layer(*arguments)
        return x
