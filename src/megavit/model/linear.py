"""A linear layer for float32 on AMD's processors, which MKL, PyTorch's library there, multiplies without AVX-512.

oneDNN, which is part of PyTorch too, multiplies faster there: a training step of S/16 takes 1/1.67 of the time with
AVX-512 (Zen 5, `benchmarks/speed/linear_on_cpu.py`), and gains less with AVX2. In bfloat16 PyTorch uses oneDNN itself.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode

from megavit.runtime.processors import is_amd


class Linear(nn.Linear):
    """`nn.Linear` with the faster kernel for float32; the same as it elsewhere, and when traced or transformed."""

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight
        if torch.compiler.is_compiling() or not is_onednn_faster() or not _can_use_onednn(input, weight):
            return F.linear(input, weight, self.bias)
        if torch.is_grad_enabled():
            return _Product.apply(input, weight, self.bias)
        return _multiply(input, weight, self.bias)


@cache
def is_onednn_faster() -> bool:
    """Return whether oneDNN multiplies float32 matrices faster than PyTorch does by itself on this processor."""
    return is_amd() and torch.backends.mkldnn.is_available()


class _Product(torch.autograd.Function):
    """The product of (..., in) with a matrix (out, in), plus a bias (out,), and its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # pyrefly: ignore[bad-override]
        ctx.save_for_backward(x, weight)
        return _multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyrefly: ignore[bad-override]
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        rows, inputs = gradient.flatten(0, -2), x.flatten(0, -2)
        if torch.is_grad_enabled():  # a gradient of this gradient is wanted, which oneDNN's kernels lack
            return (
                gradient @ weight if needs_x else None,
                rows.t() @ inputs if needs_weight else None,
                rows.sum(0) if needs_bias else None,
            )
        return (
            _multiply(gradient, weight.t(), None) if needs_x else None,
            _weight_gradient(rows, inputs) if needs_weight else None,
            rows.sum(0) if needs_bias else None,
        )


def _weight_gradient(rows: Tensor, inputs: Tensor) -> Tensor:
    """Return the gradient (out, in) of the matrix, from gradients (N, out) and inputs (N, in)."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return rows.t() @ inputs
    if rows.shape[1] < inputs.shape[1]:
        return _multiply(rows.t(), inputs.t(), None)
    return _multiply(inputs.t(), rows.t(), None).t()


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "none")


def _can_use_onednn(x: Tensor, weight: Tensor) -> bool:
    """Return whether oneDNN has a kernel for this product, and nothing but its value and gradient is wanted."""
    return (
        x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and x.device.type == weight.device.type == "cpu"
        and x.ndim > 1
        and x.numel() > 0
        # Subclasses, e.g. of fake and distributed tensors, have kernels of their own.
        and type(x) in (Tensor, nn.Parameter)
        and type(weight) in (Tensor, nn.Parameter)
        and not torch.jit.is_tracing()
        and _get_current_dispatch_mode() is None
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch.autograd.forward_ad._current_level < 0
    )
