"""Processors: those of the machine, or a container's share of their time."""

import os
import platform

import psutil
import pytest
import torch

from megavit.runtime import processors
from megavit.runtime.cgroup import CgroupLimits
from megavit.runtime.device import pick_device
from megavit.runtime.processors import available_cpus, describe_processor, limit_threads


@pytest.fixture
def machine(monkeypatch):
    """A machine with 16 processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)

    def set_quota(cpus: float) -> None:
        monkeypatch.setattr(processors, "read_cgroup_limits", lambda: CgroupLimits(cpus=cpus))

    set_quota(float("inf"))
    return set_quota


@pytest.mark.parametrize(("quota", "cpus"), [(float("inf"), 16), (64.0, 16), (2.0, 2), (1.5, 2), (0.25, 1)])
def test_a_container_s_share_of_time_is_rounded_up(machine, quota, cpus):
    machine(quota)
    assert available_cpus() == cpus


def test_processes_of_one_run_share_them(machine, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    machine(8.0)
    assert available_cpus() == 2
    machine(2.0)
    assert available_cpus() == 1


def test_where_no_process_is_bound_to_processors_all_count(machine, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.delattr(psutil.Process, "cpu_affinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert available_cpus() == 12
    machine(2.0)
    assert available_cpus() == 2


def test_threads_are_no_more_than_the_share_unless_the_user_says_how_many(machine, monkeypatch):
    threads = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    machine(2.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    limit_threads()
    assert threads == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    limit_threads()
    pick_device("cpu")
    assert threads == [2, 2]
    machine(16.0)
    limit_threads()
    assert threads == [2, 2]


def test_a_processor_is_described_by_what_does_not_change(tmp_path, monkeypatch):
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(processors, "_CPU_INFO", file)
    assert describe_processor() == f"{platform.machine()} {platform.processor()}"
    first = "model name\t: Fast\ncpu MHz\t\t: {}\nflags\t\t: fpu avx2\n\n"
    descriptions = set()
    for speed in (1000, 2000):
        file.write_text(first.format(speed) + "model name\t: Fast\ncpu MHz\t\t: 3\n")
        descriptions.add(describe_processor())
    assert descriptions == {"model name\t: Fast flags\t\t: fpu avx2"}
