"""Small layers shared by all blocks: the norm, LayerScale and DropPath."""

import torch
from torch import Tensor, nn

from megavit.config.vit import Design, ViTConfig
from megavit.model.packing import Packing


def make_norm(design: Design, width: int) -> nn.LayerNorm | nn.RMSNorm:
    """Return a LayerNorm (arXiv 1607.06450) or RMSNorm (arXiv 1910.07467) over `width` channels."""
    if design.norm == "rms":
        return nn.RMSNorm(width, eps=design.norm_eps)
    return nn.LayerNorm(width, eps=design.norm_eps, bias=design.norm_bias)


class LayerScale(nn.Module):
    """A learned factor per channel (arXiv 2103.17239)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class DropPath(nn.Module):
    """Stochastic depth: in training, drop each sample's branch at random and rescale the rest (arXiv 1603.09382)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor, packing: Packing | None = None) -> Tensor:
        if not self.training or self.probability == 0:
            return branch
        keep = 1 - self.probability
        samples = branch.shape[0] if packing is None else packing.num_images
        mask = torch.rand(samples, 1, 1, device=branch.device) < keep
        mask = mask if packing is None else packing.repeat(mask)
        return branch * mask.to(branch.dtype) / keep


def make_layer_scale(config: ViTConfig) -> nn.Module:
    """Return a branch's LayerScale, or the identity if the design has none."""
    return nn.Identity() if config.design.layer_scale is None else LayerScale(config.dim)
