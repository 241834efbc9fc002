"""Size of this machine's main memory."""

import os
import sys


def main_memory() -> int:
    """Return the total main memory in bytes, or `sys.maxsize` if unknown."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return sys.maxsize
