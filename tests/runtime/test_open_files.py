"""The limit on open files, on systems that have one."""

import subprocess
import sys

import psutil

from megavit.runtime.open_files import get_open_files_limit, raise_open_files_limit

RAISE = """
import resource, sys
from megavit.runtime.open_files import get_open_files_limit, raise_open_files_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
for wanted in (32, 100, 1000):
    raise_open_files_limit(wanted)
    print(get_open_files_limit())
"""


def test_the_limit_is_raised_as_far_as_the_system_allows_and_never_lowered():
    done = subprocess.run([sys.executable, "-c", RAISE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["64", "100", "128"]


def test_the_limit_is_the_system_s():
    assert get_open_files_limit() == psutil.Process().rlimit(psutil.RLIMIT_NOFILE)[0]


def test_without_such_a_limit_nothing_is_raised(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    raise_open_files_limit(2**20)
    assert get_open_files_limit() is None
