"""Compile graphs for OpenVINO's CPU plugin, and keep it from harming the process that it runs in."""

import ctypes
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino as ov

MAX_KERNELS = 64
"""Cached per compiled graph. OpenVINO (2026.4) makes kernels for every input size and by default caches 5,000 of them,
which are gigabytes where each image has a size of its own; 64 serve a few sizes in turn as fast."""
_ONEDNN_CACHE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"

_lock = threading.Lock()


def compile_for_cpu(graph: "ov.Model", settings: Mapping[str, str | int]) -> "ov.CompiledModel":
    """Return the graph compiled with `settings`, whose memory does not grow with the number of input sizes."""
    import openvino as ov

    with preserve_signal_stack(), _without_onednn_cache():
        return ov.Core().compile_model(graph, "CPU", {"CPU_RUNTIME_CACHE_CAPACITY": str(MAX_KERNELS)} | dict(settings))


@contextmanager
def _without_onednn_cache() -> Iterator[None]:
    """Turn off the cache of oneDNN, OpenVINO's kernel library, which would keep 1,024 more kernels (some 300 MiB).

    OpenVINO's copy of that library reads the variable once, when the first graph is compiled; PyTorch's copy, whose
    speed needs the cache, must not see it.
    """
    with _lock:
        before = os.environ.get(_ONEDNN_CACHE)
        os.environ[_ONEDNN_CACHE] = before or "0"
        try:
            yield
        finally:
            if before is None:
                del os.environ[_ONEDNN_CACHE]


class _Stack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def get_signal_stack() -> tuple[int | None, int, int]:
    """Return (start, flags, size) of this thread's alternate signal stack; an empty one outside Linux."""
    stack = _Stack()
    if _libc is not None:
        _libc.sigaltstack(None, ctypes.byref(stack))
    return stack.start, stack.flags, stack.size


@contextmanager
def preserve_signal_stack() -> Iterator[None]:
    """Restore this thread's alternate signal stack after the block.

    OpenVINO (2026.4) gives the thread that runs a graph an alternate signal stack of its own (sigaltstack(2)), and
    restores the previous one when the graph is freed. Of two graphs the one freed last restores the other's, which is
    freed memory by then: the next signal, such as Ctrl-C, ends the process with a segmentation fault.
    """
    before = get_signal_stack()
    try:
        yield
    finally:
        if _libc is not None and get_signal_stack() != before:
            _libc.sigaltstack(ctypes.byref(_Stack(*before)), None)


def never_free(kept: object) -> None:
    """Keep an object, and all that it holds, beyond the interpreter's end.

    In a forked process, freeing a graph of its parent would wait for ever for threads that were not forked.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
