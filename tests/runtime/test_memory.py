"""Main memory: the machine's, or what a container leaves of it, and what is kept of it."""

import platform
import subprocess
import sys

import psutil
import pytest

from megavit.runtime import memory
from megavit.runtime.cgroup import CgroupLimits
from megavit.runtime.memory import UNKNOWN_FREE_MEMORY, free_memory, main_memory


@pytest.fixture
def contained(monkeypatch):
    def set_limits(**limits: float) -> None:
        monkeypatch.setattr(memory, "read_cgroup_limits", lambda: CgroupLimits(**limits))

    set_limits()
    return set_limits


def test_there_is_some_and_not_more_than_the_machine_has():
    assert 0 < free_memory() <= psutil.virtual_memory().total
    assert free_memory() < main_memory() <= psutil.virtual_memory().total


def test_without_a_container_it_is_the_machine_s(contained):
    assert main_memory() == psutil.virtual_memory().total


def test_a_container_s_limit_is_the_total_and_what_it_leaves_is_free(contained):
    contained(memory=2**21, free_memory=2**20)
    assert (main_memory(), free_memory()) == (2**21, 2**20)


def test_a_limit_above_the_machine_s_memory_changes_nothing(contained):
    contained(memory=2.0**62, free_memory=2.0**62)
    assert main_memory() == psutil.virtual_memory().total
    assert free_memory() <= psutil.virtual_memory().total


def test_where_the_system_does_not_tell_a_container_s_limit_still_counts(contained, monkeypatch):
    def refuse():
        raise PermissionError

    monkeypatch.setattr(psutil, "virtual_memory", refuse)
    assert (main_memory(), free_memory()) == (sys.maxsize, UNKNOWN_FREE_MEMORY)
    contained(memory=2**21, free_memory=2**20)
    assert (main_memory(), free_memory()) == (2**21, 2**20)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_what_is_freed_is_kept_for_the_next_step():
    code = """
import sys, psutil
from megavit.runtime.memory import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
before = psutil.Process().memory_info().rss
blocks = [bytearray(b"x" * (20 * 2**20)) for _ in range(10)]
del blocks
print(psutil.Process().memory_info().rss - before)
"""
    kept, returned = (
        int(subprocess.run([sys.executable, "-c", code, word], check=True, capture_output=True).stdout)
        for word in ("keep", "return")
    )
    assert returned < 100 * 2**20 < kept
