"""Run a command in several processes on this machine with PyTorch's elastic agent."""

import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from megavit.cli import STARTED
from megavit.errors import LostProcessError, MegavitError
from megavit.runtime.process_group import get_dist_context

# Path of a folder with the exit code of a process that failed; then no process is restarted.
ERROR_CODE_FILE = "MEGAVIT_ERROR_CODE_FILE"
# Folder next to it with the exit code of a complete command that did not fully succeed.
_FINAL_CODE = "final_code"
_CONTENT = "content"
# Monotonic time in seconds at which the command began that started this process.
LAUNCH_TIME = "MEGAVIT_LAUNCH_TIME"
MAX_RESTARTS = 3
# Seconds to write a checkpoint before the agent kills the processes.
SHUTDOWN_SECONDS = "120"


def launch(nproc: int, arguments: Sequence[str], resume_command: str) -> int:
    """Run `megavit` with these arguments in several processes, and return the exit code.

    Raises:
        LostProcessError: if processes have died more than `MAX_RESTARTS` times.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, launch_agent

    from megavit.runtime.processors import available_cpus

    os.environ[LAUNCH_TIME] = str(STARTED)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cpus() // nproc)))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", SHUTDOWN_SECONDS)
    # Restarts hang with a shared store.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    with tempfile.TemporaryDirectory() as folder:
        error_code = Path(folder) / "error_code"
        os.environ[ERROR_CODE_FILE] = str(error_code)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=nproc,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=MAX_RESTARTS,
            # The default leaves files in the system's temporary folder.
            logs_specs=DefaultLogsSpecs(log_dir=str(Path(folder) / "logs")),
        )
        code = 0
        try:
            launch_agent(config, sys.executable, ["-m", "megavit", *arguments])
        except SignalException as stopped:
            code = 128 + stopped.sigval
        except ChildFailedError as error:
            if not error_code.exists():
                raise LostProcessError(
                    f"the processes have died {MAX_RESTARTS + 1} times, see above; to continue, run {resume_command}"
                ) from error
        for path in (error_code, error_code.with_name(_FINAL_CODE)):
            if path.exists():
                return int((path / _CONTENT).read_text(encoding="ascii"))
        return code


def stopped_elsewhere() -> bool:
    """Return whether, under `launch`, another process has failed."""
    return ERROR_CODE_FILE in os.environ and Path(os.environ[ERROR_CODE_FILE]).exists()


def set_final_code(code: int) -> int:
    """Set the exit code of `launch`, and return that of this process: the agent takes any but 0 for a crash."""
    if ERROR_CODE_FILE in os.environ:
        _create(Path(os.environ[ERROR_CODE_FILE]).with_name(_FINAL_CODE), str(code))
    return 0


def mark_refused() -> None:
    """Record for other processes and restarts that the first process has refused the command."""
    folder = _job_folder()
    if folder is not None:
        (folder / "refused").touch()


def is_refused() -> bool:
    folder = _job_folder()
    return folder is not None and (folder / "refused").exists()


def get_start_time() -> float:
    """Return the monotonic time at which the command began, or after a restart this process."""
    launch_time = os.environ.get(LAUNCH_TIME)
    return STARTED if launch_time is None or get_dist_context().restarts else float(launch_time)


@contextmanager
def report_once() -> Iterator[None]:
    """Let only one of several failing processes report its error; under `launch`, none is restarted then."""
    if not get_dist_context().is_distributed:
        yield
        return
    error_code = Path(os.environ[ERROR_CODE_FILE]) if ERROR_CODE_FILE in os.environ else None
    if error_code is not None and error_code.exists():
        sys.exit(0)
    try:
        yield
    except LostProcessError as error:
        if _is_first_to_report():
            sys.stderr.write(f"megavit: {error}\n")
        sys.stderr.flush()
        # A normal exit would abort in PyTorch's threads, which wait for other processes.
        os._exit(error.exit_code)
    except MegavitError as error:
        if error_code is not None:
            first = _create(error_code, str(error.exit_code))
            error.exit_code = 0  # `launch` returns the real one
        else:
            first = _is_first_to_report()
        if first:
            raise
        sys.exit(error.exit_code)


def _create(path: Path, text: str) -> bool:
    """Create a folder atomically with a file of this content; return False if it exists."""
    part = path.with_name(f"{path.name}-{os.getpid()}")
    part.mkdir(exist_ok=True)
    (part / _CONTENT).write_text(text, encoding="ascii")
    try:
        part.rename(path)  # no system replaces a folder that is not empty
    except OSError:
        if not path.exists():
            raise
        shutil.rmtree(part)
        return False
    return True


def _is_first_to_report() -> bool:
    folder = _job_folder()
    return folder is None or _create(Path(os.environ["TORCHELASTIC_ERROR_FILE"]).parents[1] / "reported", "")


def _job_folder() -> Path | None:
    """Return the folder shared by the processes of this machine across restarts; None without torchrun."""
    own = os.environ.get("TORCHELASTIC_ERROR_FILE")
    return Path(own).parents[2] if own else None
