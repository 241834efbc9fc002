"""One large product of matrices in PyTorch: what the speed of a whole model is set beside."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = {"cpu": 1024, "cuda": 8192}


def matmul(device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], object], int]:
    """Return a product of two square matrices, by the fastest way PyTorch has for it, and its FLOPs.

    Args:
        dtype: one that the device multiplies without emulation.
    """
    side = SIDE[device.type]
    x, weight = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return _product(x, weight), 2 * side**3


def _product(x: Tensor, weight: Tensor) -> Callable[[], object]:
    if x.device.type == "cpu" and torch.backends.mkldnn.is_available():
        # On some processors twice as fast as the library that F.linear uses.
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        return lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "none")
    return lambda: F.linear(x, weight)
