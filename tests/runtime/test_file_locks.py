"""Locks against other processes, which end with them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from megavit.runtime.file_locks import lock_for_process, lock_opened

HOLDER = """
import sys
from megavit.runtime.file_locks import lock_for_process, lock_opened
file = open(sys.argv[1], "ab")
print(lock_for_process(file.fileno()) if sys.argv[2] == "process" else lock_opened(file.fileno()), flush=True)
sys.stdin.read()
"""


def hold(path: Path, kind: str) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "True\n"
    return holder


@pytest.mark.parametrize("kind", ["process", "opened"])
def test_a_lock_ends_with_the_process_that_holds_it(kind, tmp_path):
    path = tmp_path / "lock"
    with hold(path, kind) as holder, path.open("ab") as file:
        if kind == "process":
            with pytest.raises(BlockingIOError):
                lock_for_process(file.fileno())
        else:
            assert not lock_opened(file.fileno(), wait=False)
        holder.kill()
        holder.wait()
        assert lock_for_process(file.fileno()) if kind == "process" else lock_opened(file.fileno(), wait=False)


@pytest.mark.parametrize("lock", [lock_for_process, lock_opened])
def test_a_system_without_locks_is_no_error(lock, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", None)
    with (tmp_path / "lock").open("ab") as file:
        assert lock(file.fileno()) is False


def test_on_windows_a_byte_is_locked_and_a_held_one_is_told(tmp_path, monkeypatch):
    class Msvcrt:
        LK_NBLCK = 2
        asked: list[tuple[int, int]] = []  # noqa: RUF012
        error: int | None = None

        @classmethod
        def locking(cls, handle: int, mode: int, count: int) -> None:
            cls.asked.append((mode, count))
            if cls.error is not None:
                raise OSError(cls.error, os.strerror(cls.error))

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt)
    with (tmp_path / "lock").open("ab") as file:
        assert lock_for_process(file.fileno())
        Msvcrt.error = 13  # EACCES: another process holds it
        with pytest.raises(BlockingIOError):
            lock_for_process(file.fileno())
        Msvcrt.error = 22  # EINVAL: such a file cannot be locked
        assert not lock_for_process(file.fileno())
    assert Msvcrt.asked == [(2, 1)] * 3
