"""Limits of containers: both versions, groups within groups, and files that say nothing."""

import math
from pathlib import Path

import pytest

from megavit.runtime.cgroup import CgroupLimits, read_cgroup_limits

GIB = 2**30


class FakeMachine:
    """The files of /proc/self and of mounted control groups, below a folder."""

    def __init__(self, folder: Path) -> None:
        self.process, self.groups = folder / "proc self", folder / "cgroup tree"
        self.process.mkdir()
        self.groups.mkdir()
        self._mounts: list[str] = ["23 28 0:21 / /proc rw,relatime shared:12 - proc proc rw"]

    def belongs_to(self, *lines: str) -> None:
        (self.process / "cgroup").write_text("".join(f"{line}\n" for line in lines))

    def mount(self, kind: str, options: str = "rw", *, at: str = "", root: str = "/") -> None:
        point = str(self.groups / at).rstrip("/").replace(" ", "\\040")
        number = len(self._mounts)
        self._mounts.append(f"{30 + number} 23 0:{26 + number} {root} {point} rw shared:9 - {kind} {kind} {options}")
        (self.process / "mountinfo").write_text("".join(f"{line}\n" for line in self._mounts))

    def write(self, path: str, content: object) -> None:
        file = self.groups / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{content}\n")

    def limits(self) -> CgroupLimits:
        return read_cgroup_limits(self.process)


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


def test_a_process_without_groups_has_no_limit(tmp_path, machine):
    assert read_cgroup_limits(tmp_path / "no such folder") == CgroupLimits()
    machine.belongs_to("0::/")
    machine.mount("cgroup2")
    assert machine.limits() == CgroupLimits(math.inf, math.inf, math.inf)


def test_version_2_in_a_container_that_sees_its_own_group_as_the_root(machine):
    machine.belongs_to("0::/")
    machine.mount("cgroup2", "rw,nsdelegate")
    machine.write("memory.max", 2 * GIB)
    machine.write("memory.high", "max")
    machine.write("memory.current", GIB)
    machine.write("memory.stat", f"anon 5\ninactive_file {GIB // 4}\nactive_file {GIB // 8}\nfile_dirty 7")
    machine.write("cpu.max", "150000 100000")
    assert machine.limits() == CgroupLimits(2 * GIB, 2 * GIB - GIB + GIB // 4 + GIB // 8, 1.5)


def test_max_is_no_limit(machine):
    machine.belongs_to("0::/app")
    machine.mount("cgroup2")
    machine.write("app/memory.max", "max")
    machine.write("app/memory.high", "max")
    machine.write("app/memory.current", GIB)
    machine.write("app/cpu.max", "max 100000")
    assert machine.limits() == CgroupLimits()


def test_the_tightest_of_the_groups_around_it_counts(machine):
    machine.belongs_to("0::/pod/app/inner")
    machine.mount("cgroup2")
    machine.write("pod/memory.max", 3 * GIB)
    machine.write("pod/memory.current", 2.5 * GIB // 1 * 1)  # not an integer: as if it were not there
    machine.write("pod/app/memory.max", 4 * GIB)
    machine.write("pod/app/memory.current", 7 * GIB // 2)
    machine.write("pod/app/inner/memory.max", "max")
    machine.write("pod/cpu.max", "200000 100000")
    machine.write("pod/app/cpu.max", "400000 100000")
    assert machine.limits() == CgroupLimits(3 * GIB, GIB // 2, 2.0)


def test_a_limit_that_slows_counts_like_one_that_ends(machine):
    machine.belongs_to("0::/app")
    machine.mount("cgroup2")
    machine.write("app/memory.max", 4 * GIB)
    machine.write("app/memory.high", 3 * GIB)
    machine.write("app/memory.current", GIB)
    assert machine.limits() == CgroupLimits(3 * GIB, 2 * GIB)


def test_a_group_that_is_full_leaves_nothing_and_not_less(machine):
    machine.belongs_to("0::/app")
    machine.mount("cgroup2")
    machine.write("app/memory.max", GIB)
    machine.write("app/memory.current", GIB + 4096)
    assert machine.limits().free_memory == 0


def test_version_1_has_a_tree_for_each_controller(machine):
    machine.belongs_to("9:name=systemd:/other", "5:cpu,cpuacct:/app", "4:memory:/pod/app", "0::/")
    machine.mount("tmpfs", "rw,mode=755")
    machine.mount("cgroup", "rw,cpu,cpuacct", at="cpu,cpuacct")
    machine.mount("cgroup", "rw,memory", at="memory")
    machine.mount("cgroup", "rw,name=systemd", at="systemd")
    machine.mount("cgroup2", at="unified")
    unlimited = 9223372036854771712
    machine.write("memory/memory.limit_in_bytes", unlimited)
    machine.write("memory/memory.usage_in_bytes", 30 * GIB)
    machine.write("memory/pod/memory.limit_in_bytes", 2 * GIB)
    machine.write("memory/pod/memory.usage_in_bytes", GIB)
    machine.write("memory/pod/memory.stat", f"cache 1\ntotal_inactive_file {GIB // 2}\ntotal_active_file 0")
    machine.write("memory/pod/app/memory.limit_in_bytes", unlimited)
    machine.write("memory/pod/app/memory.soft_limit_in_bytes", GIB)  # only matters while others lack memory
    machine.write("memory/pod/app/memory.usage_in_bytes", GIB // 4)
    machine.write("cpu,cpuacct/app/cpu.cfs_quota_us", 50_000)
    machine.write("cpu,cpuacct/app/cpu.cfs_period_us", 100_000)
    machine.write("cpu,cpuacct/cpu.cfs_quota_us", -1)
    machine.write("cpu,cpuacct/cpu.cfs_period_us", 100_000)
    machine.write("systemd/other/memory.limit_in_bytes", 1)
    assert machine.limits() == CgroupLimits(2 * GIB, 3 * GIB // 2, 0.5)


def test_version_1_tells_of_a_limit_outside_of_what_is_mounted(machine):
    """In Docker, the process's path is that of the machine, and the mount begins at the container's group."""
    machine.belongs_to("4:memory:/docker/8f2e")
    machine.mount("cgroup", "rw,memory", root="/docker/8f2e")
    machine.write("memory.limit_in_bytes", 8 * GIB)
    machine.write("memory.usage_in_bytes", GIB)
    machine.write("memory.stat", f"hierarchical_memory_limit {2 * GIB}\ntotal_inactive_file 0")
    assert machine.limits() == CgroupLimits(2 * GIB, GIB)


def test_a_group_elsewhere_than_the_mount_is_looked_for_at_its_top(machine):
    machine.belongs_to("0::/../sibling")
    machine.mount("cgroup2", root="/kubepods/pod1")
    machine.write("memory.max", GIB)
    assert machine.limits().memory == GIB


@pytest.mark.parametrize("content", ["", "twelve", "-1", "\0", "1.5", "9" * 30 + " x"])
def test_damaged_files_set_no_limit_below_the_machine_s(machine, content):
    machine.belongs_to("0::/app", "", "nonsense", ":::")
    machine.mount("cgroup2")
    for name in ("memory.max", "memory.high", "memory.current", "memory.stat", "cpu.max"):
        machine.write(f"app/{name}", content)
    limits = machine.limits()
    assert limits.memory >= 2**63 and limits.cpus == math.inf
