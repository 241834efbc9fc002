"""Files and folders are there as a whole or not at all, whatever the disk does."""

import errno
import hashlib
import os
import resource
import shutil
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from megavit.errors import OutputError
from megavit.runtime import storage
from megavit.runtime.storage import check_writable, new_folder, sha256, write_file, writing


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files cannot grow beyond `size` bytes inside: a real write that fails half-way, without a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("only root can mount a disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fail_fsync(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fsync(_handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# write_file


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "a.txt"
    write_file(path, "old é")
    assert path.read_bytes() == "old é".encode()
    write_file(path, b"new\r\n\0")
    assert path.read_bytes() == b"new\r\n\0"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_failing_write_leaves_the_old_file_and_no_other(number, tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_file(path, "old")
    fail_fsync(monkeypatch, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        write_file(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_write_that_stops_half_way_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    write_file(path, "old")
    with largest_file(10_000), pytest.raises(OutputError, match=r"the text could not be written.*too large"):
        with writing("the text", path):
            write_file(path, b"x" * 20_000)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_text_that_cannot_be_encoded_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_file(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_file(path, "\udcff")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_without_fsync_will_do(number, tmp_path, monkeypatch):
    fail_fsync(monkeypatch, number)
    write_file(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(mask, mode, tmp_path):
    with umask(mask):
        write_file(tmp_path / "a.txt", "text")
        with new_folder(tmp_path / "folder") as folder:
            write_file(folder / "b.txt", "text")
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "folder/b.txt").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~mask


def test_the_longest_file_name_there_can_be_is_written(tmp_path):
    path = tmp_path / ("é" * 127)
    write_file(path, "text")
    assert path.read_text() == "text"


def test_a_reader_sees_the_old_file_or_the_new(tmp_path):
    path = tmp_path / "a"
    contents = [letter * 100_000 for letter in (b"a", b"b")]
    write_file(path, contents[0])
    seen, done = [], threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(path.read_bytes() in contents)

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(60):
        write_file(path, contents[i % 2])
    done.set()
    reader.join()
    assert seen
    assert all(seen)


# new_folder


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder as it was before."""
    target = tmp_path / "runs/target"
    with new_folder(target) as folder:
        (folder / "a").write_text("old")
        (folder / "inner").mkdir()
        (folder / "inner/b").write_text("old")
    return target


def test_a_new_folder_is_made_with_the_folders_above_it(old):
    assert (old / "inner/b").read_text() == "old"
    assert names(old.parent) == ["target"]


def test_a_new_folder_takes_the_place_of_the_old_one_with_all_that_was_in_it(old):
    with new_folder(old) as folder:
        (folder / "c").write_text("new")
        assert names(old) == ["a", "inner"]
    assert names(old) == ["c"]
    assert names(old.parent) == ["target"]


def test_without_an_exchange_the_new_folder_takes_the_place_all_the_same(old, monkeypatch):
    monkeypatch.setattr(storage, "_exchange", lambda a, b: False)
    with new_folder(old) as folder:
        (folder / "c").write_text("new")
    assert names(old) == ["c"]
    assert names(old.parent) == ["target"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, OSError(errno.ENOSPC, "full")])
def test_an_error_inside_leaves_the_old_folder_and_no_rubbish(error, old):
    with pytest.raises(error if isinstance(error, type) else type(error)), new_folder(old) as folder:
        (folder / "c").write_text("new")
        raise error
    assert (old / "a").read_text() == (old / "inner/b").read_text() == "old"
    assert names(old.parent) == ["target"]


def test_a_disk_that_fails_at_the_end_leaves_the_old_folder(old, monkeypatch):
    with pytest.raises(OSError, match="No space"), new_folder(old) as folder:
        (folder / "c").write_text("new")
        fail_fsync(monkeypatch, errno.ENOSPC)
    assert (old / "a").read_text() == "old"
    assert names(old.parent) == ["target"]


def test_an_error_inside_leaves_nothing_where_nothing_was(tmp_path):
    with pytest.raises(ValueError), new_folder(tmp_path / "target") as folder:
        (folder / "c").write_text("new")
        raise ValueError
    assert names(tmp_path) == []


def test_a_file_in_the_way_is_replaced_without_rubbish(tmp_path):
    (tmp_path / "target").write_text("a file")
    with new_folder(tmp_path / "target") as folder:
        (folder / "c").write_text("new")
    assert names(tmp_path / "target") == ["c"]
    assert names(tmp_path) == ["target"]


def test_a_reader_never_sees_an_older_or_unfinished_folder(tmp_path):
    target = tmp_path / "target"

    def write(number: int) -> None:
        with new_folder(target) as folder:
            for name in ("a", "b", "c"):
                (folder / name).write_text(str(number))

    write(0)
    probe = tmp_path / "probe"
    probe.mkdir()
    if not storage._exchange(target, probe) or not storage._exchange(target, probe):
        pytest.skip("this file system cannot exchange two names")
    faults, done, rounds = [], threading.Event(), []

    def read() -> None:
        while not done.is_set():
            try:
                found = [int((target / name).read_text()) for name in ("a", "b", "c")]
            except (OSError, ValueError) as error:
                faults.append(repr(error))
            else:
                rounds.append(found)
                faults.extend([found] if found != sorted(found) else [])

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 60):
        write(number)
    done.set()
    reader.join()
    assert faults == []
    assert rounds
    assert names(tmp_path) == ["probe", "target"]


# full disks and closed places


def test_a_full_disk_leaves_the_old_file_and_says_so(tiny_disk):
    path = tiny_disk / "a"
    write_file(path, "old")
    with pytest.raises(OutputError, match=r"the disk is full: the text could not be written to .*free some space"):
        with writing("the text", path):
            write_file(path, b"x" * 2**20)
    assert path.read_text() == "old"
    assert names(tiny_disk) == ["a"]


def test_a_full_disk_leaves_the_old_folder_and_can_be_used_again(tiny_disk):
    def fill(size: int) -> None:
        with writing("the folder", tiny_disk), new_folder(tiny_disk / "target") as folder:
            write_file(folder / "a", b"x" * size)

    fill(100_000)
    with pytest.raises(OutputError, match="the disk is full"):
        fill(200_000)
    assert (tiny_disk / "target/a").stat().st_size == 100_000
    assert names(tiny_disk) == ["target"]
    fill(110_000)
    assert (tiny_disk / "target/a").stat().st_size == 110_000


def test_too_little_room_on_a_small_disk_is_said_with_both_amounts(tiny_disk):
    with pytest.raises(OutputError, match=r"the run needs about 2 MB in .*disk.* 0 MB are free"):
        check_writable(tiny_disk, "the run", need=2_000_000)


def test_a_folder_that_can_be_written_is_made_and_left_empty(tmp_path):
    check_writable(tmp_path / "a/b", "the run", need=0)
    assert names(tmp_path / "a/b") == []


def test_too_little_room_is_said_with_folder_and_amounts(tmp_path):
    with pytest.raises(OutputError, match=r"needs about 1,000,000,000,000 MB in .*, but only [\d,]+ MB") as caught:
        check_writable(tmp_path, "the run", need=10**18)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("inner", ["", "run"])
def test_a_file_in_the_way_of_a_folder_is_said(inner, tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / inner
    with pytest.raises(OutputError, match="the run could not be written to") as caught:
        check_writable(folder, "the run", need=0)
    assert str(folder) in str(caught.value)


def test_a_place_where_nothing_can_be_made_is_said():
    with pytest.raises(OutputError, match=r"the run could not be written to /proc/run: .*; choose another path"):
        check_writable(Path("/proc/run"), "the run", need=0)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_has_words_of_its_own(number):
    with pytest.raises(OutputError, match="the disk is full: a checkpoint could not be written to runs"):
        with writing("a checkpoint", Path("runs")):
            raise OSError(number, os.strerror(number))


def test_other_errors_pass_through_writing():
    with pytest.raises(KeyError), writing("a checkpoint", Path("runs")):
        raise KeyError("a bug of ours")


def test_sha256_is_of_the_files_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 300_000)
    assert sha256(tmp_path / "a") == hashlib.sha256(b"x" * 300_000).hexdigest()


def test_a_folder_that_another_process_has_just_written_is_replaced(tmp_path, monkeypatch):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "file").write_text("of the other process")
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path, **options: path.name != "target" and exists(path, **options))
    with new_folder(tmp_path / "target") as folder:
        (folder / "file").write_text("ours")
    assert (tmp_path / "target" / "file").read_text() == "ours"


# Windows


@pytest.fixture
def windows(monkeypatch):
    """Windows opens no folders, and replaces no open files."""

    def open_file(path, flags, *mode, **options):
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return usual(path, flags, *mode, **options)

    def replace(path, target):
        held = {os.path.realpath(handle) for handle in Path("/proc/self/fd").iterdir()}
        if {str(path), str(target)} & held:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return move(path, target)

    usual, move = os.open, Path.replace
    monkeypatch.setattr(storage, "IS_WINDOWS", True)
    monkeypatch.setattr(storage.sys, "platform", "win32")
    monkeypatch.setattr(storage.os, "open", open_file)
    monkeypatch.setattr(shutil, "_use_fd_functions", False)
    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.delattr(os, "O_NOFOLLOW")


def test_windows_replaces_closed_files(tmp_path, windows):
    path = tmp_path / "a.txt"
    write_file(path, "old")
    write_file(path, b"new\r\n")
    assert path.read_bytes() == b"new\r\n"
    assert names(tmp_path) == ["a.txt"]


def test_windows_replaces_folders_whose_files_are_closed(tmp_path, windows):
    target = tmp_path / "target"
    for content in ("old", "new"):
        with new_folder(target) as folder:
            (folder / content).write_text(content)
    assert names(target) == ["new"]
    assert names(tmp_path) == ["target"]


def test_windows_keeps_what_a_killed_process_left_as_it_may_be_in_use(tmp_path, windows):
    (tmp_path / ".a.txt-01234567").write_text("perhaps in use")
    write_file(tmp_path / "a.txt", "new")
    assert names(tmp_path) == [".a.txt-01234567", "a.txt"]


def test_a_mac_swaps_folders_by_its_own_function(old, monkeypatch):
    class Library:
        def renamex_np(self, a: bytes, b: bytes, flags: int) -> int:
            swapped.append(flags)
            first, second = Path(os.fsdecode(a)), Path(os.fsdecode(b))
            third = first.rename(first.with_name("third"))
            second.rename(first)
            third.rename(second)
            return 0

    swapped: list[int] = []
    monkeypatch.setattr(storage.sys, "platform", "darwin")
    monkeypatch.setattr(storage.ctypes, "CDLL", lambda name: Library())
    with new_folder(old) as folder:
        (folder / "c").write_text("new")
    assert swapped == [2] and names(old) == ["c"] and names(old.parent) == ["target"]
