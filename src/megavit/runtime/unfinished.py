"""Files and folders that are being written beside their place, each locked by its writer for as long as that lives.

The system frees the lock of a process that was killed: so what nobody will finish can be told from what is being
written now, and the next write of the same name removes it.
"""

import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

_LONGEST = 40
_NAME = re.compile(r"\.(.+)-[0-9a-f]{8}", re.DOTALL)


def beside(path: Path) -> Path:
    """Return a new hidden name beside a path, which `remove_left` knows again."""
    return path.with_name(f".{path.name[:_LONGEST]}-{secrets.token_hex(4)}")


def begin_unfinished(target: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """Return what `make` has made beside `target`, locked, and the descriptor to close when it is done.

    Args:
        make: makes it at a path, and gives a descriptor of it.
    """
    import fcntl

    while True:
        path = beside(target)
        try:
            handle = make(path)
        except FileNotFoundError:
            if target.parent.is_dir():
                continue  # removed as below, before it was opened
            raise
        with suppress(OSError):  # some network file systems know no locks: there, nothing is removed either
            fcntl.flock(handle, fcntl.LOCK_EX)
        if _is_at(handle, path):  # else another process took it for left, before it was locked
            return path, handle
        os.close(handle)


def remove_left(target: Path) -> None:
    """Remove what processes that were killed have left of earlier writes of `target`."""
    left = _found_in(target.parent).pop(target.name[:_LONGEST], ())
    for name in left:
        _remove_unless_locked(target.parent / name)


@cache
def _found_in(folder: Path) -> dict[str, list[str]]:
    """Return the unfinished things in a folder by the names that they were to get, as this process first saw it.

    Once, because a folder may have as many entries as there are writes.
    """
    found: dict[str, list[str]] = {}
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if match := _NAME.fullmatch(entry.name):
                found.setdefault(match[1], []).append(entry.name)
    return found


def _remove_unless_locked(path: Path) -> None:
    import fcntl

    with suppress(OSError):
        if not stat.S_ISREG(mode := path.lstat().st_mode) and not stat.S_ISDIR(mode):
            return
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(handle, path):
                return
            if stat.S_ISDIR(mode):
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        finally:
            os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except OSError:
        return False
