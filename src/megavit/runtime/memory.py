"""Sizes of the main memory that this process may use: the machine's, or its container's."""

import sys

from megavit.runtime.cgroup import read_cgroup_limits

UNKNOWN_FREE_MEMORY = 2**32
"""Assumed free memory in bytes where the system does not tell."""


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
