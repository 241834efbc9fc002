"""Norms, scales and projections as fewer matrices with the same answer."""

import torch
from torch import Tensor, nn

Matrix = tuple[Tensor, Tensor | None]
"""Weight (out, in) and bias (out,) or None, float64, so that folding rounds nothing that float32 would keep."""


def matrix(linear: nn.Linear, norm: nn.Module | None = None, scale: nn.Module | None = None) -> Matrix:
    """`linear` with the factor and shift of the norm before it, and the factor of the scale after it.

    Args:
        norm: a LayerNorm or RMSNorm; None or an Identity for none.
        scale: a LayerScale; None or an Identity for none.
    """
    weight = linear.weight.detach().double()
    bias = None if linear.bias is None else linear.bias.detach().double()
    factor, shift = affine(norm)
    if shift is not None:
        moved = weight @ shift.double()
        bias = moved if bias is None else bias + moved
    if factor is not None:
        weight = weight * factor.double()
    after = getattr(scale, "factor", None)
    if after is not None:
        after = after.detach().double()
        weight, bias = weight * after[:, None], None if bias is None else bias * after
    return weight, bias


def rows(whole: Matrix, start: int, stop: int, factor: float = 1.0) -> Matrix:
    """The outputs from `start` to `stop` alone, times `factor`."""
    weight, bias = whole
    return weight[start:stop] * factor, None if bias is None else bias[start:stop] * factor


def joined(*parts: Matrix) -> Matrix:
    """One matrix with the outputs of all, in order; they have biases, or none has."""
    biases = [bias for _, bias in parts if bias is not None]
    return torch.cat([weight for weight, _ in parts]), torch.cat(biases) if biases else None


def affine(norm: nn.Module | None) -> tuple[Tensor | None, Tensor | None]:
    """What a norm multiplies with and adds, (width,) each; None where it does not."""
    factor, shift = getattr(norm, "weight", None), getattr(norm, "bias", None)
    return None if factor is None else factor.detach(), None if shift is None else shift.detach()


def is_norm(module: nn.Module) -> bool:
    """Whether it is a norm; the other thing that stands in its place is an Identity."""
    return isinstance(module, nn.LayerNorm | nn.RMSNorm)
