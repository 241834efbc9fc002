"""A GPU that is none: PyTorch takes its tensors for those of an accelerator, and the CPU computes their values.

Fake tensors of PyTorch's `FakeTensorMode` say "cuda" without a GPU too, but have no values, and no backward pass where
no driver is installed. These have both, so that a whole run can be compared with that on the CPU. An operation on
tensors of two devices is refused as on a GPU, and what makes Python wait for a GPU is noted, with the function that
asked for it.

The process that imports this has the accelerator "emulated" from then on, so it must be one of its own.
"""

import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from megavit.runtime.device import KINDS

NAME = "emulated"
DEVICE = f"{NAME}:0"  # a name, as PyTorch knows such a device only after what follows
SOURCE = Path(sys.modules["megavit"].__file__ or "").parent


class Wait(NamedTuple):
    """An operation during which Python waits for the GPU, and the function of megavit that asked for it."""

    operation: str
    asked_by: str


class _Module(types.ModuleType):
    """What `torch.cuda` is for CUDA."""

    synchronizations = 0

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None: ...

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


_waits: list[Wait] = []
_pinned: set[int] = set()


class GpuTensor(Tensor):
    """A tensor of the emulated GPU, whose value is a tensor of the CPU."""

    value: Tensor

    @staticmethod
    def __new__(cls, value: Tensor) -> "GpuTensor":
        strides, offset = value.stride(), value.storage_offset()
        make: Any = Tensor._make_wrapper_subclass
        tensor = make(cls, value.size(), strides=strides, storage_offset=offset, dtype=value.dtype, device=DEVICE)
        tensor.value = value
        return tensor

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"GpuTensor({self.value})"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # pyrefly: ignore
        return _run(func, args, kwargs or {})


class EmulatedGpu(TorchDispatchMode):
    """A mode in which there is the emulated GPU."""

    def __enter__(self) -> Self:
        self._before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # so that torch.tensor(..., device=...) is seen as a copy
        return super().__enter__()

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(self._before)
        super().__exit__(exc_type, exc_val, exc_tb)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _is_own(kwargs.get("device")) or any(isinstance(leaf, GpuTensor) for leaf in tree_leaves((args, kwargs))):
            return _run(func, args, kwargs)
        return func(*args, **kwargs)

    def pop_waits(self) -> list[Wait]:
        """Return the waits since the last call."""
        found = [*_waits]
        _waits.clear()
        return found


def _is_own(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute an operation with at least one tensor of the GPU, before it or after it."""
    operation = func._schema.name.removeprefix("aten::")
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    own = [isinstance(tensor, GpuTensor) for tensor in tensors]
    device = kwargs.get("device")
    to_gpu = any(own) if device is None else _is_own(device)
    if operation in ("_to_copy", "copy_"):
        to_gpu = own[0] if operation == "copy_" else to_gpu
        is_copy = to_gpu != own[0] if operation == "_to_copy" else own[0] != own[1]
        is_ahead = kwargs.get("non_blocking", args[2] if operation == "copy_" and len(args) > 2 else False)
        if is_copy and not (to_gpu and is_ahead):
            _note("copy to the GPU" if to_gpu else "copy from the GPU")
    elif device is None:
        _check(func, operation, tensors, own)
    computed = _on_cpu(func, args, kwargs)
    if not to_gpu:
        return computed
    wrapped = tree_map(lambda leaf: GpuTensor(leaf) if isinstance(leaf, Tensor) else leaf, computed)
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


def _check(func: Any, operation: str, tensors: list[Tensor], own: list[bool]) -> None:
    """Note a wait, or raise a RuntimeError, as on a GPU, for tensors of two devices."""
    others = [tensor for tensor, is_own in zip(tensors, own, strict=True) if not is_own and tensor.dim()]
    is_indexing = operation in ("index", "index_put", "index_put_", "_index_put_impl_")
    if others and not is_indexing:
        raise RuntimeError(
            f"expected all tensors on one device, but {operation} got some on {NAME} and some on the CPU"
        )
    if is_indexing:  # an index on the CPU is copied, and a mask is counted
        if others or any(tensor.dtype == torch.bool for tensor in tensors[1:]):
            _note(operation)
    elif {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags):
        _note(operation)


def _on_cpu(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    args, kwargs = tree_map(lambda leaf: leaf.value if isinstance(leaf, GpuTensor) else leaf, (args, kwargs))
    if kwargs.get("device") is not None:
        kwargs["device"] = torch.device("cpu")
    kwargs.pop("pin_memory", None)
    with torch._C._DisableTorchDispatch():
        return func(*args, **kwargs)


def _note(operation: str) -> None:
    frame, asked_by = sys._getframe(), "a test"
    while frame := frame.f_back:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(SOURCE):
            asked_by = f"{file.relative_to(SOURCE).as_posix()}:{frame.f_code.co_name}"
            break
    _waits.append(Wait(operation, asked_by))


def _pin(tensor: Tensor, device: object = None) -> Tensor:
    _pinned.add(tensor.data_ptr())
    return tensor


def _is_pinned(tensor: Tensor, device: object = None) -> bool:
    return tensor.data_ptr() in _pinned


_LIBRARIES: list[torch.library.Library] = []  # what they register goes with them


def _register_autocast() -> None:
    """Cast as for CUDA what a Vision Transformer does; everything else keeps its data type."""
    key: Any = torch._C.DispatchKey.AutocastPrivateUse1  # pyrefly: ignore
    without = torch._C.DispatchKeySet(key)

    def casting(operation: Callable[..., Any], fixed: torch.dtype | None) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            dtype = fixed or torch.get_autocast_dtype(NAME)

            def cast(leaf: Any) -> Any:
                is_cast = isinstance(leaf, GpuTensor) and leaf.dtype in (torch.float32, torch.bfloat16)
                return leaf.to(dtype) if is_cast else leaf

            with torch._C._ExcludeDispatchKeyGuard(without):
                return operation(*tree_map(cast, args), **tree_map(cast, kwargs))

        return run

    everything, aten = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    _LIBRARIES.extend((everything, aten))
    everything.fallback(torch.library.fallthrough_kernel, key.name)
    for name in ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "conv2d", "scaled_dot_product_attention"):
        aten.impl(name, casting(getattr(torch.ops.aten, name).default, None), key.name)
    for name in ("layer_norm", "rms_norm", "softmax.int", "log_softmax.int"):
        packet, _, overload = name.partition(".")
        operation = getattr(getattr(torch.ops.aten, packet), overload or "default")
        aten.impl(name, casting(operation, torch.float32), key.name)


def count_synchronizations() -> int:
    """Return how often Python has waited on purpose, by `torch.accelerator.synchronize`."""
    return MODULE.synchronizations


def count_pinned() -> int:
    """Return how many tensors were put into pinned memory, at different addresses."""
    return len(_pinned)


def _synchronize(device: object = None) -> None:
    MODULE.synchronizations += 1


MODULE = _Module(f"torch.{NAME}")
_setup_privateuseone_for_python_backend(NAME, MODULE)
_register_autocast()
torch.accelerator.synchronize = _synchronize
Tensor.pin_memory = _pin  # pyrefly: ignore
Tensor.is_pinned = _is_pinned  # pyrefly: ignore
KINDS[NAME] = replace(
    KINDS["cuda"], name=lambda _: "an emulated GPU", memory=lambda _: 2**36, bfloat16=lambda _: True, collectives="gloo"
)
