"""One transformer layer: parallel (ViT-22B, the default), serial (the original ViT), or zetascale's."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from megavit.config.vit import ViTConfig
from megavit.model.attention import Attention
from megavit.model.mlp import FeedForward
from megavit.model.norm import make_norm
from megavit.model.packing import Packing
from megavit.model.pos_embed import Rotation
from megavit.model.zeta import ZetaBlock


class LayerScale(nn.Module):
    """A learned factor a channel (arXiv 2103.17239)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class DropPath(nn.Module):
    """In training, drops a sample's whole branch with a probability, and scales up the rest (arXiv 1603.09382)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor, packing: Packing | None = None) -> Tensor:
        if not self.training or self.probability == 0:
            return branch
        keep = 1 - self.probability
        samples = branch.shape[0] if packing is None else packing.images
        kept = torch.rand(samples, 1, 1, device=branch.device) < keep
        kept = kept if packing is None else packing.repeat(kept)
        return branch * kept.to(branch.dtype) / keep


class ParallelBlock(nn.Module):
    """x + attention(n) + mlp(n), with one n = norm(x) (arXiv 2302.05442, equation 1): (B, T, D) -> (B, T, D)."""

    def __init__(self, config: ViTConfig, drop_path: float) -> None:
        super().__init__()
        self.norm = make_norm(config.design, config.dim)
        self.attention = Attention(config)
        self.attention_scale = _scale(config)
        self.mlp = FeedForward(config)
        self.mlp_scale = _scale(config)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, rotation: Rotation | None = None, packing: Packing | None = None) -> Tensor:
        normed = self.norm(x)
        attended = self.attention_scale(self.attention(normed, rotation, packing))
        return x + self.drop_path(attended + self.mlp_scale(self.mlp(normed)), packing)


class SerialBlock(nn.Module):
    """x + attention(norm(x)), then the same with the MLP (arXiv 2010.11929, equations 2, 3): (B, T, D) -> (B, T, D)."""

    def __init__(self, config: ViTConfig, drop_path: float) -> None:
        super().__init__()
        self.attention_norm = make_norm(config.design, config.dim)
        self.attention = Attention(config)
        self.attention_scale = _scale(config)
        self.mlp_norm = make_norm(config.design, config.dim)
        self.mlp = FeedForward(config)
        self.mlp_scale = _scale(config)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, rotation: Rotation | None = None, packing: Packing | None = None) -> Tensor:
        attended = self.attention_scale(self.attention(self.attention_norm(x), rotation, packing))
        x = x + self.drop_path(attended, packing)
        return x + self.drop_path(self.mlp_scale(self.mlp(self.mlp_norm(x))), packing)


BLOCKS = {"parallel": ParallelBlock, "serial": SerialBlock, "zeta": ZetaBlock}


class Transformer(nn.Module):
    """`depth` layers, one after the other: (B, T, D) -> (B, T, D).

    Attributes:
        gradient_checkpointing: in training, keep only the layers' inputs, and compute each again on the way back
            (arXiv 1604.06174).
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        block = BLOCKS[config.design.block]
        deepest = max(1, config.depth - 1)
        self.layers = nn.ModuleList(block(config, config.design.drop_path * i / deepest) for i in range(config.depth))
        self.gradient_checkpointing = False

    def forward(self, x: Tensor, rotation: Rotation | None = None, packing: Packing | None = None) -> Tensor:
        recompute = self.gradient_checkpointing and self.training
        for layer in self.layers:
            if recompute:
                x = checkpoint(layer, x, rotation, packing, use_reentrant=False)
            else:
                x = layer(x, rotation, packing)
        return x


def _scale(config: ViTConfig) -> nn.Module:
    return nn.Identity() if config.design.layer_scale is None else LayerScale(config.dim)
