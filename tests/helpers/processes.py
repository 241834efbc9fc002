"""Look at processes of this machine, and wait for their end."""

import os
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.helpers.waiting import wait_until


def is_alive(pid: int) -> bool:
    """Return whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_ended(pids: Iterable[int]) -> None:
    wait_until(lambda: not any(is_alive(pid) for pid in pids))


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started, as when a machine is lost."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
