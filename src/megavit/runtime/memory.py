"""How much memory this machine has."""

import os
import sys


def main_memory() -> int:
    """Bytes of main memory, free or not: what others hold now may be free in a moment. No limit where none is told."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return sys.maxsize
