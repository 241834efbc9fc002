"""The stack on which this thread handles signals, kept as it is.

OpenVINO (2026.4) gives the thread that runs a graph an alternate signal stack of its own (sigaltstack(2)), and at its
end puts back the one that it found. Of two graphs the one that ends last puts back the other's, which is free by then:
the next signal, such as a child's end or Ctrl-C, ends the process with a segmentation fault.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def signal_stack() -> tuple[int | None, int, int]:
    """(start, flags, size) of this thread's alternate signal stack; of none where the system is not Linux."""
    found = _Stack()
    if _libc is not None:
        _libc.sigaltstack(None, ctypes.byref(found))
    return found.start, found.flags, found.size


@contextmanager
def keeping_signal_stack() -> Iterator[None]:
    """Put this thread's alternate signal stack back as it was before the block."""
    before = signal_stack()
    try:
        yield
    finally:
        if _libc is not None and signal_stack() != before:
            _libc.sigaltstack(ctypes.byref(_Stack(*before)), None)
