"""Whether a run is begun, or begun again by the elastic agents that start its processes again."""

import os
from pathlib import Path

from megavit.runtime.ranks import agents_job
from megavit.runtime.storage import write_file, writing

MARK = ".begun"


def mark_begun(out: Path) -> None:
    """Note in `out` which job begins it, where agents do: they may begin it again."""
    if agents_job() is None:
        return
    with writing("the run", out):
        write_file(out / MARK, job())


def is_restart(out: Path) -> bool:
    """Whether these processes belong to the very job that began the run in `out`.

    The number of restarts does not tell: agents do not count those for a machine that has come or gone.
    """
    try:
        return agents_job() is not None and (out / MARK).read_text() == job()
    except OSError:
        return False


def job() -> str:
    """The agents' name for this job; where it has none, the agent itself."""
    name = agents_job()
    if name not in (None, "none"):
        return name
    agent = os.getppid()
    try:
        began = Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        began = ""
    return f"agent {agent} {began}"
