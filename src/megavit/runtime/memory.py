"""The main memory that this process may use: its size, the machine's or its container's, and what becomes of it."""

import ctypes
import platform
import sys

from megavit.runtime.cgroup import read_cgroup_limits

UNKNOWN_FREE_MEMORY = 2**32
"""Assumed free memory in bytes where the system does not tell."""


# Parameters of glibc's mallopt, from its malloc.h, and the largest threshold that it accepts.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MAX_MMAP_THRESHOLD = -1, -3, 32 * 2**20


def keep_freed_memory() -> None:
    """Let this process keep what it frees until it ends, for the next step of a training to use again.

    glibc otherwise returns it to the system after each step, which must find and clear it again for the next one.
    Blocks of more than 32 MiB are returned all the same. Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _MAX_MMAP_THRESHOLD)
        libc.mallopt(_TRIM_THRESHOLD, -1)


def main_memory() -> int:
    """Return the total main memory in bytes, at most the container's limit, or `sys.maxsize` if unknown."""
    import psutil

    try:
        total = psutil.virtual_memory().total
    except OSError:
        total = sys.maxsize
    return int(min(total, read_cgroup_limits().memory))


def free_memory() -> int:
    """Return the available main memory in bytes, at most what the container's limit leaves; 4 GiB if unknown."""
    import psutil

    try:
        available = psutil.virtual_memory().available
    except OSError:
        available = UNKNOWN_FREE_MEMORY
    return int(min(available, read_cgroup_limits().free_memory))
