"""Whether a run is begun, or begun again by the elastic agent that restarts its processes."""

import os
from pathlib import Path

from megavit.runtime.ranks import Ranks
from megavit.runtime.storage import write_file, writing

MARK = ".begun"


def mark_begun(out: Path) -> None:
    """Note in `out` which job begins it."""
    with writing("the run", out):
        write_file(out / MARK, job())


def is_restart(out: Path, ranks: Ranks) -> bool:
    """Whether these processes were started again by the very job that began the run in `out`."""
    try:
        return ranks.restarts > 0 and (out / MARK).read_text() == job()
    except OSError:
        return False


def job() -> str:
    """The agent's name for this job; where it has none, the agent itself."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    if name != "none":
        return name
    agent = os.getppid()
    try:
        began = Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        began = ""
    return f"agent {agent} {began}"
