"""What a killed process leaves is removed by the next write of the same name, and nothing else ever is."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from megavit.runtime import unfinished
from megavit.runtime.storage import new_folder, write_file

WRITER = """
import sys
from pathlib import Path
from megavit.runtime import storage

def wait(*_):
    print("half", flush=True)
    sys.stdin.read()
    storage._sync = sync

sync = storage._sync

target = Path(sys.argv[2])
if sys.argv[1] == "folder":
    with storage.new_folder(target) as folder:
        (folder / "part").write_text("half of it")
        wait()
else:
    storage._sync = wait
    storage.write_file(target, "half of it")
"""


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def half_written(kind: str, target: Path) -> subprocess.Popen[str]:
    """A process that is in the middle of writing `target`."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, kind, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None and writer.stdout.readline() == "half\n"
    return writer


def end(writer: subprocess.Popen[str]) -> None:
    with writer:
        pass


def write(kind: str, target: Path) -> None:
    unfinished._find_temporary.cache_clear()  # as in a new process
    if kind == "file":
        write_file(target, "all of it")
    else:
        with new_folder(target) as folder:
            (folder / "part").write_text("all of it")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_goes_with_the_next_write(kind, tmp_path):
    writer = half_written(kind, tmp_path / "model")
    assert len(names(tmp_path)) == 1
    writer.send_signal(signal.SIGKILL)
    end(writer)
    (left,) = names(tmp_path)
    write(kind, tmp_path / "other")
    assert names(tmp_path) == [left, "other"]
    write(kind, tmp_path / "model")
    assert names(tmp_path) == ["model", "other"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_another_process_is_writing_stays_until_it_is_done(kind, tmp_path):
    writer = half_written(kind, tmp_path / "model")
    write(kind, tmp_path / "model")
    assert len(names(tmp_path)) == 2
    end(writer)
    assert names(tmp_path) == ["model"]
    done = tmp_path / "model" if kind == "file" else tmp_path / "model" / "part"
    assert done.read_text() == "half of it" and writer.returncode == 0


def test_nothing_but_the_left_of_this_very_name_is_removed(tmp_path):
    kept = [".model-0123456", ".model-0123456g", "model-01234567", ".models-01234567", ".model-01234567.old"]
    for name in kept:
        (tmp_path / name).write_text("")
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / ".model-89abcdef").symlink_to("elsewhere")
    os.mkfifo(tmp_path / ".model-fedcba98")
    (tmp_path / ".model-01234567").mkdir()
    write("file", tmp_path / "model")
    assert set(names(tmp_path)) == {*kept, ".model-89abcdef", ".model-fedcba98", "elsewhere", "model"}


def test_many_that_write_the_same_at_once_do_not_remove_each_other_s(tmp_path):
    def again(number: int) -> None:
        write("folder" if number % 2 else "file", tmp_path / ("folder" if number % 2 else "file"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(again, range(200)))
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "folder" / "part").read_text() == "all of it"
