"""Processes: results in order, errors as they are, and no waiting for the dead."""

import os
import signal
import subprocess
import sys

import pytest

from megavit.data import workers as module
from megavit.data.workers import MAX_WORKERS, WORKER_BYTES, count_workers, map_in_processes
from megavit.errors import DataError
from tests.helpers.processes import wait_until_ended


def _double(number: int) -> int:
    return 2 * number


def _die(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def _refuse(number: int) -> int:
    raise DataError(f"not {number}")


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_order(workers):
    assert list(map_in_processes(_double, range(20), workers)) == [2 * number for number in range(20)]


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_arrive_as_they_are(workers):
    with pytest.raises(DataError, match=r"^not 1$"):
        list(map_in_processes(_refuse, [1], workers))


def test_a_process_that_dies_is_an_error_and_no_hang():
    with pytest.raises(DataError, match=r"has died.*memory"):
        list(map_in_processes(_die, range(4), 2))


@pytest.mark.parametrize(
    ("cpus", "memory", "expected"),
    [(4, 100 * WORKER_BYTES, 4), (64, 100 * WORKER_BYTES, MAX_WORKERS), (4, 2 * WORKER_BYTES, 2), (4, 0, 1)],
)
def test_workers_are_as_many_as_processors_and_memory_allow(monkeypatch, cpus, memory, expected):
    monkeypatch.setattr(module, "available_cpus", lambda: cpus)
    monkeypatch.setattr(module, "free_memory", lambda: memory)
    assert count_workers() == expected


def test_processes_of_a_run_share_the_memory(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(module, "available_cpus", lambda: 8)
    monkeypatch.setattr(module, "free_memory", lambda: 4 * WORKER_BYTES)
    assert count_workers() == 2


_PARENT = """
import os, time
from megavit.data.workers import map_in_processes
def wait(_):
    os.write(1, f"{os.getpid()}\\n".encode())
    time.sleep(600)
if __name__ == "__main__":
    list(map_in_processes(wait, range(2), 2))
"""


def test_no_process_outlives_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [int(parent.stdout.readline()) for _ in range(2)]
        parent.kill()
        parent.wait()
        wait_until_ended(children)
