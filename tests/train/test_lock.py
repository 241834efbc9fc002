import subprocess
import sys

import pytest

from megavit.errors import OutputError
from megavit.train.run_dir import lock_run_dir

HOLD = """
import os, sys
from pathlib import Path
from megavit.train.run_dir import lock_run_dir
with lock_run_dir(Path(sys.argv[1])):
    child = os.fork() if sys.argv[2] == "fork" else 1
    if child == 0:
        sys.stdin.read()  # a worker that outlives its parent
        os._exit(0)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path, request):
    """Another process that holds the lock."""
    fork = getattr(request, "param", "")
    command = [sys.executable, "-c", HOLD, str(tmp_path), fork]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_with_advice(tmp_path, holder):
    with pytest.raises(OutputError, match=r"another process is training.*wait until it ends"):
        with lock_run_dir(tmp_path):
            pass


@pytest.mark.parametrize("holder", ["", "fork"], indirect=True)
def test_a_killed_process_holds_nothing_even_if_its_workers_live_on(tmp_path, holder):
    holder.kill()
    holder.wait()
    with lock_run_dir(tmp_path):
        pass


def test_the_lock_leaves_nothing_behind_and_can_be_taken_again(tmp_path):
    for _ in range(2):
        with lock_run_dir(tmp_path):
            assert [path.name for path in tmp_path.iterdir()] == [".lock"]
        assert not any(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_a_message(tmp_path):
    with pytest.raises(OutputError, match="could not be written"):
        with lock_run_dir(tmp_path / "nothing"):
            pass
