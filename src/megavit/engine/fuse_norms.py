"""Fuse norms and layer scales into the adjacent projections: fewer matrices, the same output."""

import torch
from torch import Tensor, nn

from megavit.model.layers import BatchNorm
from megavit.model.outputs.split_linear import SplitLinear

Matrix = tuple[Tensor, Tensor | None]
"""Weight (out, in) and bias (out,) or None, in float64, so that fusing loses no float32 precision."""


def fuse(linear: nn.Linear | SplitLinear, norm: nn.Module | None = None, scale: nn.Module | None = None) -> Matrix:
    """Return `linear` fused with the norm's affine part before it and the LayerScale after it, if any."""
    weight = linear.weight.detach().double()
    bias = None if linear.bias is None else linear.bias.detach().double()
    factor, shift = get_affine(norm)
    if shift is not None:
        product = weight @ shift.double()
        bias = product if bias is None else bias + product
    if factor is not None:
        weight = weight * factor.double()
    after = getattr(scale, "factor", None)
    if after is not None:
        after = after.detach().double()
        weight, bias = weight * after[:, None], None if bias is None else bias * after
    return weight, bias


def slice_rows(matrix: Matrix, start: int, stop: int, factor: float = 1.0) -> Matrix:
    """Return the rows from `start` to `stop`, multiplied by `factor`."""
    weight, bias = matrix
    return weight[start:stop] * factor, None if bias is None else bias[start:stop] * factor


def concatenate(*matrices: Matrix) -> Matrix:
    """Return one matrix with the rows of all, in order; either all have biases or none has."""
    biases = [bias for _, bias in matrices if bias is not None]
    return torch.cat([weight for weight, _ in matrices]), torch.cat(biases) if biases else None


def get_affine(norm: nn.Module | None) -> tuple[Tensor | None, Tensor | None]:
    """Return the factor and the shift of a norm, (width,) each; None for a missing one. BatchNorm has nothing else."""
    if isinstance(norm, BatchNorm):
        return norm.affine()
    factor, shift = getattr(norm, "weight", None), getattr(norm, "bias", None)
    return None if factor is None else factor.detach(), None if shift is None else shift.detach()


def is_norm(module: nn.Module) -> bool:
    """Return whether a module is a norm, and not an Identity in its place."""
    return isinstance(module, nn.LayerNorm | nn.RMSNorm | BatchNorm)
