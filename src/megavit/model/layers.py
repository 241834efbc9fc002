"""Small layers and functions shared by all blocks: norms, LayerScale, DropPath, the first tokens."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megavit.config.vit import Design, ViTConfig
from megavit.model.packing import Packing


class BatchNorm(nn.Module):
    """A norm of each channel over all tokens of a batch (arXiv 1502.03167): (..., D) -> (..., D).

    In training, `mean` and `variance` become those of the batch, which must have more than one token; a moving average
    of the model averages them like its weights, and normalizes by them.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("mean", torch.empty(width))
        self.register_buffer("variance", torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.float().flatten(0, -2)
        if self.training and len(rows) < 2:
            raise ValueError(
                "batch norms need more than one token in training: pass more images, or larger ones, or call eval()"
            )
        statistics = (self.mean, self.variance)
        # With a momentum of 1, they are replaced.
        normed = F.batch_norm(rows, *statistics, self.weight, self.bias, self.training, momentum=1.0, eps=self.eps)
        return normed.view_as(x)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return the factor and the shift (D,) of the norm in evaluation, as float64."""
        factor = self.weight.detach().double() / (self.variance.double() + self.eps).sqrt()
        return factor, self.bias.detach().double() - factor * self.mean.double()


def make_norm(design: Design, width: int) -> nn.LayerNorm | nn.RMSNorm | BatchNorm:
    """Return a norm of tokens with `width` channels."""
    return BatchNorm(width, design.norm_eps) if design.norm == "batch" else make_token_norm(design, width)


def make_token_norm(design: Design, width: int) -> nn.LayerNorm | nn.RMSNorm:
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


def first_tokens(x: Tensor, count: int | None) -> Tensor:
    """Return the first `count` tokens of `x` (..., T, D), or all of them for None."""
    return x if count is None else x[..., :count, :]


def make_layer_scale(config: ViTConfig) -> nn.Module:
    """Return a branch's LayerScale, or the identity if the design has none."""
    return nn.Identity() if config.design.layer_scale is None else LayerScale(config.dim)
