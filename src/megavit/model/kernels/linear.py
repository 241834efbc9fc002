"""A linear layer that multiplies by oneDNN, a part of PyTorch, where PyTorch's own layer is slower on a CPU.

In float32 on AMD's processors PyTorch multiplies by MKL, which takes no AVX-512 there: a training step of S/16 takes
1/1.67 of the time by oneDNN on Zen 5, and gains less with AVX2. In bfloat16 PyTorch multiplies by oneDNN itself, but
first writes the bias into every row of the output, and reads it again to add to it (`benchmarks.speed.kernels_on_cpu`).
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode

from megavit.runtime.device import has_bfloat16
from megavit.runtime.processors import is_amd


class Linear(nn.Linear):
    """`nn.Linear` with the faster kernel on a CPU; the same as it elsewhere, and when traced or transformed."""

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        dtype = find_dtype(input, weight)
        # Of a wrong width PyTorch says what came and what was expected.
        if dtype is None or (dtype == torch.bfloat16 and bias is None) or input.shape[-1] != weight.shape[1]:
            return F.linear(input, weight, bias)
        tensors = input.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        return _Product.apply(*tensors) if torch.is_grad_enabled() else multiply(*tensors)


def find_dtype(x: Tensor, weight: Tensor) -> torch.dtype | None:
    """Return the dtype in which oneDNN multiplies these faster than PyTorch's layer, or None if it does not.

    It does not where anything but the value and the gradient of the product is wanted, as its kernels have no more.
    """
    if torch.compiler.is_compiling() or not _are_plain(x, weight):
        return None
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        known = {torch.float32, dtype} if dtype == torch.bfloat16 else set()
    else:
        dtype = x.dtype
        known = {dtype} if dtype in (torch.float32, torch.bfloat16) else set()
    is_faster = is_onednn_faster() if dtype == torch.float32 else has_onednn_bfloat16()
    return dtype if is_faster and known.issuperset((x.dtype, weight.dtype)) else None


@cache
def is_onednn_faster() -> bool:
    """Return whether oneDNN multiplies float32 matrices faster than PyTorch does by itself on this processor."""
    return is_amd() and torch.backends.mkldnn.is_available()


@cache
def has_onednn_bfloat16() -> bool:
    """Return whether this processor multiplies in bfloat16 without emulation."""
    return has_bfloat16(torch.device("cpu"))


class _Product(torch.autograd.Function):
    """The product of (..., in) with a matrix (out, in), plus a bias (out,), and its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # pyrefly: ignore[bad-override]
        ctx.save_for_backward(x, weight)
        return multiply(x, weight, bias)

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
            multiply(gradient, weight.t(), None) if needs_x else None,
            _weight_gradient(rows, inputs) if needs_weight else None,
            rows.sum(0) if needs_bias else None,
        )


def _weight_gradient(rows: Tensor, inputs: Tensor) -> Tensor:
    """Return the gradient (out, in) of the matrix, from gradients (N, out) and inputs (N, in)."""
    if rows.dtype == torch.bfloat16 or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return rows.t() @ inputs
    if rows.shape[1] < inputs.shape[1]:
        return multiply(rows.t(), inputs.t(), None)
    return multiply(inputs.t(), rows.t(), None).t()


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x (..., in) times a matrix (out, in), plus a bias (out,), by oneDNN, all of one dtype; no gradients."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "none")


def _are_plain(x: Tensor, weight: Tensor) -> bool:
    """Return whether these are matrices on a CPU of which nothing but their product and its gradient is wanted."""
    return (
        x.device.type == weight.device.type == "cpu"
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
