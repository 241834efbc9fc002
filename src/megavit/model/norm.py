"""The norm of the design, used on the residual stream and, per head, on queries and keys."""

from torch import nn

from megavit.config.vit import Design


def make_norm(design: Design, width: int) -> nn.LayerNorm | nn.RMSNorm:
    """A norm over the last axis, of `width` channels: LayerNorm (arXiv 1607.06450) or RMSNorm (arXiv 1910.07467)."""
    if design.norm == "rms":
        return nn.RMSNorm(width, eps=design.norm_eps)
    return nn.LayerNorm(width, eps=design.norm_eps, bias=design.norm_bias)
