"""Compile graphs for OpenVINO's CPU plugin, and work around its side effects on the process."""

import ctypes
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from megavit.runtime.processors import allowed_cpus

if TYPE_CHECKING:
    import openvino as ov

MAX_KERNELS = 64
"""Kernels cached per compiled graph; OpenVINO's (2026.4) default of 5,000 takes gigabytes for many input sizes."""
_ONEDNN_CACHE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"

_lock = threading.Lock()


def thread_settings(threads: int) -> dict[str, int | bool]:
    """Return the settings for a graph whose threads compute each batch together.

    If they need all processors, they are pinned to them, as others may wake up on the same one and take turns until the
    system moves them. If not, those of two processes would be pinned to the same ones, while others are idle.
    """
    return {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": threads >= allowed_cpus()}


def compile_for_cpu(graph: "ov.Model", settings: Mapping[str, str | int]) -> "ov.CompiledModel":
    """Return the graph compiled with `settings`, and with bounded caches even for many input sizes."""
    import openvino as ov

    with preserve_signal_stack(), _without_onednn_cache():
        return ov.Core().compile_model(graph, "CPU", {"CPU_RUNTIME_CACHE_CAPACITY": str(MAX_KERNELS)} | dict(settings))


def import_for_cpu(graph: "ov.Tensor", settings: Mapping[str, str | int]) -> "ov.CompiledModel":
    """Return a graph as it was compiled and exported; OpenVINO raises a RuntimeError if it is of another build."""
    import openvino as ov

    with preserve_signal_stack(), _without_onednn_cache():
        return ov.Core().import_model(graph, "CPU", {"CPU_RUNTIME_CACHE_CAPACITY": str(MAX_KERNELS)} | dict(settings))


@contextmanager
def _without_onednn_cache() -> Iterator[None]:
    """Turn off the cache of oneDNN, OpenVINO's kernel library, which would keep 1,024 more kernels (some 300 MiB).

    OpenVINO's copy of oneDNN reads the variable once, when the first graph is compiled. PyTorch's copy needs the cache
    to be fast, and must not see it.
    """
    with _lock:
        previous = os.environ.get(_ONEDNN_CACHE)
        os.environ[_ONEDNN_CACHE] = previous or "0"
        try:
            yield
        finally:
            if previous is None:
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
    """Restore this thread's alternate signal stack (sigaltstack(2)) after the block.

    OpenVINO (2026.4) replaces it when a graph runs, and restores the previous one when the graph is freed. With two
    graphs, that may be memory already freed, so that the next signal, such as Ctrl-C, causes a segmentation fault.
    """
    previous = get_signal_stack()
    try:
        yield
    finally:
        if _libc is not None and get_signal_stack() != previous:
            _libc.sigaltstack(ctypes.byref(_Stack(*previous)), None)


def never_free(value: object) -> None:
    """Keep an object alive until the process ends, as freeing a parent's graph in a forked process never returns."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
