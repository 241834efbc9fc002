"""Processes that end with the process that started them, and that leave it the processor."""

import contextlib
import ctypes
import os
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1  # option of Linux's prctl
_NICENESS = 10


def die_with_parent(parent: int | None = None) -> None:
    """Have this process killed when its parent ends, as a killed parent cannot stop it; exit if it has ended already.

    Args:
        parent: ID of the process to end with; None for the parent. On Windows, the parent of a virtual environment's
            Python is a launcher, which outlives the program that has started it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:
            sys.exit("the parent process has exited")
    else:
        threading.Thread(target=_exit_with, args=[parent or os.getppid()], daemon=True).start()


def _exit_with(parent: int) -> None:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(parent).wait()
    os._exit(1)


def lower_priority() -> None:
    """Give other processes precedence over this one."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    else:
        import psutil

        psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)  # pyrefly: ignore[missing-attribute] - Windows only
