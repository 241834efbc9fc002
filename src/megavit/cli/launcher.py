"""One command on several processes: those of this machine are started here, by PyTorch's elastic agent."""

import os
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from megavit.cli import STARTED
from megavit.errors import LostProcessError, MegavitError
from megavit.runtime.process_group import get_dist_context

# Names a file in which a process that ends on purpose leaves its exit code: then none is to be started again.
VERDICT = "MEGAVIT_VERDICT"
# Beside it: the exit code of a command that was done to its end, and has more to tell.
_ENDING = "ending"
# Tells when the command began that started them, in seconds of this machine's monotonic clock.
BEGAN = "MEGAVIT_BEGAN"
MOST_RESTARTS = 3
# What a stop waits for a checkpoint to be written, before the agent kills.
SHUTDOWN_SECONDS = "120"


def launch(nproc: int, arguments: Sequence[str], go_on: str) -> int:
    """Run `megavit` with these arguments in so many processes; the answer is the exit code.

    Args:
        go_on: the command that goes on with what was begun.

    Raises:
        LostProcessError: when processes have died more often than they are started again.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, launch_agent

    from megavit.data.workers import available_cpus

    os.environ[BEGAN] = str(STARTED)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cpus() // nproc)))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", SHUTDOWN_SECONDS)
    # A restart on the store of the processes before it hangs.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    with tempfile.TemporaryDirectory() as folder:
        verdict = Path(folder) / "verdict"
        os.environ[VERDICT] = str(verdict)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=nproc,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=MOST_RESTARTS,
            # Else its files would stay in the system's temporary folder.
            logs_specs=DefaultLogsSpecs(log_dir=str(Path(folder) / "logs")),
        )
        code = 0
        try:
            launch_agent(config, sys.executable, ["-m", "megavit", *arguments])
        except SignalException as stopped:
            code = 128 + stopped.sigval
        except ChildFailedError as error:
            if not verdict.exists():
                raise LostProcessError(
                    f"its processes ended {MOST_RESTARTS + 1} times without being asked to: see above why; "
                    f"{go_on} goes on"
                ) from error
        ending = verdict.with_name(_ENDING)
        return next((int(told.read_text()) for told in (verdict, ending) if told.exists()), code)


def stopped_elsewhere() -> bool:
    """Whether, under `launch`, another process has ended the whole with an error."""
    return VERDICT in os.environ and Path(os.environ[VERDICT]).exists()


def end_with(code: int) -> int:
    """The exit code of a process that is done, where `launch` answers with `code`: an agent takes any but 0 for a
    crash."""
    if VERDICT in os.environ:
        _claim(Path(os.environ[VERDICT]).with_name(_ENDING), str(code))
    return 0


def refused_before(*, now: bool) -> bool:
    """Whether the first process of this job has refused its work, also before it was started again; with `now` it
    does."""
    own = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if own is None:
        return False
    refused = Path(own).parents[2] / "refused"
    if now:
        refused.touch()
    return refused.exists()


def began() -> float:
    """The monotonic time at which the command began; of processes that were started again, at which these did."""
    given = os.environ.get(BEGAN)
    return STARTED if given is None or get_dist_context().restarts else float(given)


@contextmanager
def telling_once() -> Iterator[None]:
    """Of several processes that end with an error, one says so; below `launch`, the others are not started again."""
    dist = get_dist_context()
    if not dist.is_distributed:
        yield
        return
    verdict = Path(os.environ[VERDICT]) if VERDICT in os.environ else None
    if verdict is not None and verdict.exists():
        sys.exit(0)
    try:
        yield
    except LostProcessError as error:
        file = _told_file()
        if file is None or _claim(file, ""):
            sys.stderr.write(f"megavit: {error}\n")
        sys.stderr.flush()
        # Python's own end would abort on PyTorch's threads, which still wait for the others.
        os._exit(error.exit_code)
    except MegavitError as error:
        if verdict is not None:
            told = not _claim(verdict, str(error.exit_code))
            error.exit_code = 0  # in `launch` it is what it was
            if told:
                sys.exit(0)
            raise
        file = _told_file()
        if file is None or _claim(file, ""):
            raise
        sys.exit(error.exit_code)


def _claim(path: Path, text: str) -> bool:
    """Make a file, unless another process has."""
    with suppress(FileExistsError):
        # Complete when it is seen.
        part = path.with_name(f"{path.name}-{os.getpid()}")
        part.write_text(text)
        try:
            os.link(part, path)
        finally:
            part.unlink()
        return True
    return False


def _told_file() -> Path | None:
    """A file that the processes of this machine share until the next restart."""
    own = os.environ.get("TORCHELASTIC_ERROR_FILE")
    return Path(own).parent.parent / "told" if own else None
