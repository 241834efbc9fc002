"""Write files and folders atomically, with helpful errors for full or read-only disks."""

import contextlib
import ctypes
import errno
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from megavit.errors import OutputError
from megavit.runtime.unfinished import create_temporary, remove_leftovers, temporary_path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # Linux
_RENAME_SWAP = 2  # macOS
IS_WINDOWS = os.name == "nt"
# Without O_BINARY, Windows changes line breaks.
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


@contextlib.contextmanager
def writing(what: str, where: Path) -> Iterator[None]:
    """Convert an OSError in the block into an OutputError that says what could not be written, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"the disk is full: {what} could not be written to {where}; free some space") from error
        reason = error.strerror or str(error)
        raise OutputError(f"{what} could not be written to {where}: {reason}; choose another path") from error


def write_file(path: Path, content: bytes | str) -> None:
    """Write `path` atomically: a reader, or a crash, leaves either the old or the new content."""
    data = content.encode() if isinstance(content, str) else content
    remove_leftovers(path)
    part, handle = create_temporary(path, lambda new: os.open(new, _NEW_FILE, 0o666))
    assert handle is not None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            _sync(file.fileno())
            if not IS_WINDOWS:  # where an open file keeps its name
                part.replace(path)
        if IS_WINDOWS:
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder to fill, which atomically replaces `target` when the block ends without an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    folder, handle = create_temporary(target, _make_folder)
    try:
        yield folder
        for file in folder.rglob("*"):
            if file.is_file():
                sync_file(file)
        sync_folder(folder)
        replace_folder(folder, target)
    finally:
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)
        else:
            folder.unlink(missing_ok=True)  # a replaced file or link
        if handle is not None:
            os.close(handle)
    sync_folder(target.parent)


def _make_folder(folder: Path) -> int | None:
    folder.mkdir()
    return None if IS_WINDOWS else os.open(folder, os.O_RDONLY)


def replace_folder(folder: Path, target: Path) -> None:
    """Rename `folder` to `target`; an existing target is swapped with `folder`, or removed."""
    if not target.exists():
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # written by another process since the check
                raise
        else:
            return
    if not _exchange(folder, target):
        # Without an atomic exchange, there is briefly no target. `remove_leftovers` ignores a name that ends in .old,
        # because after a kill it may be the only copy.
        old = target.with_name(f"{temporary_path(target).name}.old")
        target.rename(old)
        folder.rename(target)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two names atomically (on Linux and macOS), and return False if this is not supported."""
    first, second = os.fsencode(a), os.fsencode(b)
    try:
        if sys.platform == "linux":
            return ctypes.CDLL(None).renameat2(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE) == 0
        if sys.platform == "darwin":
            return ctypes.CDLL(None).renamex_np(first, second, _RENAME_SWAP) == 0
    except (OSError, AttributeError):  # an old library of the system
        pass
    return False


def check_writable(folder: Path, what: str, need: int) -> None:
    """Raise OutputError unless `folder` can be created and written, and has `need` bytes free."""
    with writing(what, folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x")
        free = shutil.disk_usage(folder).free
    if free < need:
        raise OutputError(
            f"{what} needs about {need / 1e6:,.0f} MB in {folder}, but only {free / 1e6:,.0f} MB are free: "
            "free some space or choose another path"
        )


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Have the content of a file survive a power cut."""
    with path.open("r+b" if IS_WINDOWS else "rb") as file:  # Windows only syncs what may be written
        _sync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a power cut; Windows does so by itself."""
    if IS_WINDOWS:
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        _sync(handle)
    finally:
        os.close(handle)


def _sync(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems do not support fsync.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
