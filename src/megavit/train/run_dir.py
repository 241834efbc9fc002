"""The folder of a run: its plan, which it keeps through every stop, its lock, and the marker of its job."""

import contextlib
import errno
import fcntl
import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from megavit.config.checks import check_integer, check_range
from megavit.config.recipe import Recipe
from megavit.config.serialization import dump_toml, from_dict, parse_json
from megavit.data.dataset import LabeledImages, write_samples
from megavit.data.load import check_outside_data
from megavit.errors import BundleError, ConfigError, DataError, Interrupted, OutputError, get_signal
from megavit.runtime.csv_files import csv_text
from megavit.runtime.process_group import get_elastic_run_id
from megavit.runtime.storage import check_writable, write_file, writing
from megavit.train.clock import RunLength

MAX_THREADS = 4096
"""PyTorch would start as many as a damaged plan says."""
PLAN, RECIPE, SAMPLES, SKIPPED = "plan.json", "recipe.toml", "samples.csv", "skipped.csv"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What cannot change between a stop and the run's resumption.

    Attributes:
        source: of the data: demo:NAME, or an absolute path.
        fingerprint: of the images, their labels and splits.
        recipe: resolved.
        init: fingerprint of the pretrained weights; None: newly initialized ones.
        length: of the run; None for a fine-tuning, which keeps the length of each of its stages beside that stage.
        threads: of torch; sums in another order would differ in their last bits.
    """

    source: str
    fingerprint: str
    recipe: Recipe
    init: str | None = None
    length: RunLength | None
    threads: int

    def __post_init__(self) -> None:
        if (self.init is None) == (self.length is None):
            raise ConfigError("a run has a length, and a fine-tuning has one for each of its stages instead")
        check_integer("threads", self.threads, minimum=1)
        check_range("threads", self.threads, 1, MAX_THREADS)


def claim_run_dir(run_dir: Path, source: str) -> bool:
    """Check that a run can begin in `run_dir`, and mark it; return whether this very job has begun one there before.

    Raises:
        DataError: when the name of the data, which can be any bytes, cannot be recorded as text.
        OutputError: as `check_run_dir`, or when nothing can be written there.
    """
    if not is_restart(run_dir):
        check_run_dir(run_dir, source)
    try:
        source.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"the name {source!r} is not text, so that the run could not record it; rename the folder"
        ) from None
    check_writable(run_dir, "the run", need=0)
    write_restart_marker(run_dir)
    return (run_dir / PLAN).exists()


def check_run_dir(run_dir: Path, source: str) -> None:
    """Refuse a folder with anything else in it, and one within the data, where it would become a class.

    Raises:
        OutputError: saying what to choose instead.
    """
    with writing("the run", run_dir):
        if (run_dir / PLAN).exists():
            folder = shlex.quote(str(run_dir))
            raise OutputError(
                f"{run_dir} holds a run already: resume it with --resume {folder}, or choose another --out"
            )
        if run_dir.is_dir() and any(not path.name.startswith(".") for path in run_dir.iterdir()):
            raise OutputError(f"{run_dir} is not empty; choose a new folder with --out")
        check_outside_data(run_dir, source)


def write_plan(run_dir: Path, plan: Plan, dataset: LabeledImages) -> None:
    """Write the plan last, so that a folder that has one can be resumed.

    Raises:
        OutputError: when `run_dir` cannot be written.
    """
    skipped = csv_text(("name", "reason"), ((file.name, file.reason) for file in dataset.skipped))
    with writing("the run", run_dir):
        write_samples(run_dir / SAMPLES, dataset.samples, dataset.classes, dataset.target)
        write_file(run_dir / SKIPPED, skipped)
        write_file(run_dir / RECIPE, dump_toml(plan.recipe))
        write_file(run_dir / PLAN, json.dumps(asdict(plan), indent=1))


def read_plan(run_dir: Path) -> Plan:
    """Return the plan of the run in `run_dir`.

    Raises:
        BundleError: when there is none, or it is damaged.
    """
    path = run_dir / PLAN
    try:
        return from_dict(Plan, parse_json(path.read_bytes(), str(path)), str(path))
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(
            f"there is no run to resume in {run_dir}: it has no {PLAN}; start one with megavit train DATA"
        ) from None
    except (ConfigError, OSError) as error:
        raise BundleError(f"the run in {run_dir} cannot be resumed: {error}") from None


LOCK = ".lock"


@contextlib.contextmanager
def lock_run_dir(run_dir: Path) -> Iterator[None]:
    """Keep every other process from the run in `run_dir`, a folder that exists, for as long as this one lives.

    Raises:
        OutputError: when another process is at it.
    """
    with contextlib.ExitStack() as stack:
        with writing("the run", run_dir):
            file = stack.enter_context((run_dir / LOCK).open("ab"))
        try:
            # Of the process, where an flock would live on in the workers of one that was killed.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise OutputError(
                    f"another process is training in {run_dir}: wait until it ends or stop it, or choose another --out"
                ) from None
            # Some network file systems know no locks; nothing can be promised there.
        else:
            stack.callback((run_dir / LOCK).unlink, missing_ok=True)
        yield


RESTART_MARKER = ".begun"


def write_restart_marker(run_dir: Path) -> None:
    """Record which job begins the run, where an elastic agent does: it may begin it again."""
    if get_elastic_run_id() is None:
        return
    with writing("the run", run_dir):
        write_file(run_dir / RESTART_MARKER, job())


def is_restart(run_dir: Path) -> bool:
    """Return whether these processes belong to the very job that began the run in `run_dir`.

    The number of restarts does not tell: agents do not count those after a machine came or went.
    """
    try:
        return get_elastic_run_id() is not None and (run_dir / RESTART_MARKER).read_text() == job()
    except OSError:
        return False


def job() -> str:
    """Return the agents' name for this job; where it has none, the agent itself."""
    name = get_elastic_run_id()
    if name not in (None, "none"):
        return name
    agent = os.getppid()
    try:
        began = Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        began = ""
    return f"agent {agent} {began}"


@contextmanager
def advise_resuming(run_dir: Path) -> Iterator[None]:
    """Turn whatever stops the run from outside into an error that names the command to resume it with."""
    advice = f"resume it with megavit train --resume {shlex.quote(str(run_dir))}"
    try:
        yield
    except Interrupted as error:
        raise Interrupted(f"{error}: {advice}", error.exit_code - 128) from None
    except KeyboardInterrupt as interrupt:
        raise Interrupted(f"stopped at once: {advice}", get_signal(interrupt)) from None
    except (DataError, OutputError) as error:
        raise type(error)(f"{str(error).removesuffix('.')}. When that is mended, {advice}") from error
