"""Main memory: the machine's, or what a container leaves of it."""

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
