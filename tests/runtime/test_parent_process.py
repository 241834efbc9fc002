"""No process outlives the one that started it, with the kernel's help or without."""

import os
import subprocess
import sys

import psutil
import pytest

from megavit.runtime.parent_process import lower_priority
from tests.helpers.processes import wait_until_ended

CHILD = """
import sys, time
import psutil  # of this system, before there seems to be another
sys.platform = sys.argv[1]
from megavit.runtime.parent_process import die_with_parent
die_with_parent(int(sys.argv[2]))
print(flush=True)
time.sleep(3600)
"""
PARENT = """
import os, subprocess, sys
command = [sys.executable, "-c", sys.argv[1], sys.argv[2], str(os.getpid())]
child = subprocess.Popen(command, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_a_process_ends_when_its_parent_is_killed(platform):
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD, platform], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        wait_until_ended([child])


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_a_process_whose_parent_has_ended_already_does_not_go_on(platform):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    with subprocess.Popen([sys.executable, "-c", CHILD, platform, str(ended.pid)], stdout=subprocess.DEVNULL) as child:
        assert child.wait(60) == 1


def test_the_priority_is_lowered():
    code = "import os; from megavit.runtime.parent_process import lower_priority; lower_priority(); print(os.nice(0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > os.nice(0) or int(done.stdout) == 19


def test_the_priority_is_lowered_where_there_is_no_nice(monkeypatch):
    asked = []
    monkeypatch.delattr(os, "nice")
    monkeypatch.setattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", 16384, raising=False)
    monkeypatch.setattr(psutil.Process, "nice", lambda self, value: asked.append(value))
    lower_priority()
    assert asked == [16384]
