"""Temporary files and folders next to their target, locked by their writer, and removed later if it was killed."""

import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from megavit.runtime.file_locks import lock_opened

_MAX_NAME_LENGTH = 40
_NAME = re.compile(r"\.(.+)-[0-9a-f]{8}", re.DOTALL)


def temporary_path(path: Path) -> Path:
    """Return a new hidden temporary path next to `path`, recognized by `remove_leftovers`."""
    return path.with_name(f".{path.name[:_MAX_NAME_LENGTH]}-{secrets.token_hex(4)}")


def create_temporary(target: Path, make: Callable[[Path], int | None]) -> tuple[Path, int | None]:
    """Return a locked temporary path next to `target`, created by `make`, and the descriptor that `make` returned.

    Without a descriptor, and without locks, as on Windows and some network file systems, nothing is removed either.
    """
    while True:
        path = temporary_path(target)
        try:
            handle = make(path)
        except FileNotFoundError:
            if target.parent.is_dir():
                continue  # another process removed it before it was opened
            raise
        if handle is None or not lock_opened(handle) or _is_at(handle, path):
            return path, handle
        # Another process removed it before it was locked.
        os.close(handle)


def remove_leftovers(target: Path) -> None:
    """Remove what killed processes left of earlier writes of `target`."""
    leftovers = _find_temporary(target.parent).pop(target.name[:_MAX_NAME_LENGTH], ())
    for name in leftovers:
        _remove_unless_locked(target.parent / name)


@cache
def _find_temporary(folder: Path) -> dict[str, list[str]]:
    """Return the temporary names in a folder by target name; cached, as folders may be large."""
    found: dict[str, list[str]] = {}
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if match := _NAME.fullmatch(entry.name):
                found.setdefault(match[1], []).append(entry.name)
    return found


def _remove_unless_locked(path: Path) -> None:
    with suppress(OSError):
        if not stat.S_ISREG(mode := path.lstat().st_mode) and not stat.S_ISDIR(mode):
            return
        if not hasattr(os, "O_NOFOLLOW"):  # Windows
            return
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            if not lock_opened(handle, wait=False) or not _is_at(handle, path):
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
