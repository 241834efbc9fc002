"""Find the folder of what megavit keeps on this machine between commands."""

import os
from pathlib import Path

CACHE_SETTING = "MEGAVIT_CACHE"
"""Environment variable with the folder of what megavit keeps; a file, such as /dev/null, keeps nothing."""


def cache_folder() -> Path:
    """Return the folder of what megavit keeps between commands, which need not exist."""
    if own := os.environ.get(CACHE_SETTING):
        return Path(own)
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # Relative paths are to be ignored (XDG Base Directory Specification).
    base = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    return base / "megavit"
