"""The run directory: its plan for resuming, its lock, and its restart marker."""

import contextlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path

from megavit.config.checks import check_integer, check_range
from megavit.config.names import shell_quote
from megavit.config.recipe import Recipe
from megavit.config.serialization import dump_toml, from_dict, parse_json
from megavit.data.dataset import LabeledImages, write_samples
from megavit.data.load import DataSource, check_outside_data, name_source
from megavit.errors import BundleError, ConfigError, DataError, Interrupted, OutputError, get_signal
from megavit.runtime.csv_files import csv_text
from megavit.runtime.file_locks import lock_for_process
from megavit.runtime.process_group import get_elastic_run_id
from megavit.runtime.storage import check_writable, write_file, writing
from megavit.training.clock import RunLength

MAX_THREADS = 4096
"""Upper limit of threads, against damaged plans."""
PLAN, RECIPE, SAMPLES, SKIPPED = "plan.json", "recipe.toml", "samples.csv", "skipped.csv"
FOLDS_PLAN = "folds.json"
"""The plan of a cross-validation, whose folds are runs of their own."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The decisions of a run that stay fixed when it is resumed.

    Attributes:
        source: data source, demo:NAME or an absolute path.
        fingerprint: fingerprint of the images, their labels and splits.
        pretrained: fingerprint of the pretrained weights; None for new initialization.
        teacher: fingerprint of the weights of the teacher; None without one.
        unlabeled: fingerprint of the images without labels; None without any.
        length: length of the run; None for fine-tuning with labels, where each stage records its own.
        threads: number of torch threads; it affects the last bits of sums.
    """

    source: str
    fingerprint: str
    recipe: Recipe
    pretrained: str | None = None
    teacher: str | None = None
    unlabeled: str | None = None
    length: RunLength | None
    threads: int

    def __post_init__(self) -> None:
        if self.recipe.pretraining is None and (self.pretrained is None) == (self.length is None):
            raise ConfigError(
                f"a run has either pretrained (fine-tuning) or length, got {self.pretrained} and {self.length}"
            )
        check_integer("threads", self.threads, minimum=1)
        check_range("threads", self.threads, 1, MAX_THREADS)


def claim_run_dir(run_dir: Path, source: DataSource) -> bool:
    """Check and mark `run_dir` as the run's, and return whether this same job has already begun a run there.

    Raises:
        DataError: if the name of the data is not valid text.
        OutputError: if `run_dir` is unsuitable (see `check_run_dir`) or not writable.
    """
    if not is_restart(run_dir):
        check_run_dir(run_dir, source)
    try:
        name_source(source).encode()
    except UnicodeEncodeError:
        raise DataError(
            f"the name {source!r} is not valid UTF-8, so the run cannot record it: rename the folder"
        ) from None
    check_writable(run_dir, "the run", need=0)
    write_restart_marker(run_dir)
    return (run_dir / PLAN).exists()


def check_run_dir(run_dir: Path, source: DataSource) -> None:
    """Raise OutputError if `run_dir` is not empty, or is inside the data, where it would become a class."""
    with writing("the run", run_dir):
        if (run_dir / PLAN).exists() or (run_dir / FOLDS_PLAN).exists():
            folder = shell_quote(str(run_dir))
            raise OutputError(
                f"{run_dir} already contains a run: resume it with --resume {folder}, or choose another --out"
            )
        if run_dir.is_dir() and any(not path.name.startswith(".") for path in run_dir.iterdir()):
            raise OutputError(f"{run_dir} is not empty; choose a new folder with --out")
        check_outside_data(run_dir, source)


def write_plan(run_dir: Path, plan: Plan, dataset: LabeledImages) -> None:
    """Write samples, recipe and, last, the plan that makes the run resumable, or raise OutputError."""
    skipped = csv_text(("name", "reason"), ((file.name, file.reason) for file in dataset.skipped))
    with writing("the run", run_dir):
        write_samples(run_dir / SAMPLES, dataset.samples, dataset.classes, dataset.target)
        write_file(run_dir / SKIPPED, skipped)
        write_file(run_dir / RECIPE, dump_toml(plan.recipe))
        write_file(run_dir / PLAN, json.dumps(asdict(plan), indent=1))


def read_plan(run_dir: Path) -> Plan:
    """Return the plan of the run in `run_dir`, or raise BundleError if it is missing or damaged."""
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
    """Lock the existing folder `run_dir` against other processes, or raise OutputError if it is locked."""
    lock = run_dir / LOCK
    with contextlib.ExitStack() as stack:
        with writing("the run", run_dir):
            file = stack.enter_context(lock.open("ab"))
        try:
            is_locked = lock_for_process(file.fileno())
        except BlockingIOError:
            raise OutputError(
                f"another process is training in {run_dir}: wait until it ends or stop it, or choose another --out"
            ) from None
        if is_locked:
            stack.callback(_remove_lock, lock)
        yield


def _remove_lock(lock: Path) -> None:
    with contextlib.suppress(PermissionError):  # Windows keeps an open file; the next run takes it over
        lock.unlink(missing_ok=True)


RESTART_MARKER = ".begun"


def write_restart_marker(run_dir: Path) -> None:
    """Record the job that begins the run, if an elastic agent, which may restart it, started the job."""
    if get_elastic_run_id() is None:
        return
    with writing("the run", run_dir):
        write_file(run_dir / RESTART_MARKER, job())


def is_restart(run_dir: Path) -> bool:
    """Return whether these processes belong to the same job that began the run in `run_dir`."""
    try:
        return get_elastic_run_id() is not None and (run_dir / RESTART_MARKER).read_text() == job()
    except OSError:
        return False


def job() -> str:
    """Return the elastic run ID of this job, or else an identifier of its agent."""
    name = get_elastic_run_id()
    if name not in (None, "none"):
        return name
    agent = os.getppid()
    try:
        began = Path(f"/proc/{agent}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        began = ""
    return f"agent {agent} {began}"


_is_advised: ContextVar[bool] = ContextVar("_is_advised", default=False)


@contextmanager
def advise_resuming(run_dir: Path, command: str = "megavit train") -> Iterator[None]:
    """Add the resume command to the message of any external error or interruption, once: of a fold, the whole run's."""
    if _is_advised.get():
        yield
        return
    token = _is_advised.set(True)
    try:
        with _add_advice(run_dir, command):
            yield
    finally:
        _is_advised.reset(token)


@contextmanager
def _add_advice(run_dir: Path, command: str) -> Iterator[None]:
    advice = f"resume it with {command} --resume {shell_quote(str(run_dir))}"
    try:
        yield
    except Interrupted as error:
        raise Interrupted(f"{error}: {advice}", error.exit_code - 128) from None
    except KeyboardInterrupt as interrupt:
        raise Interrupted(f"stopped as requested: {advice}", get_signal(interrupt)) from None
    except (DataError, OutputError) as error:
        raise type(error)(f"{str(error).removesuffix('.')}. When that is fixed, {advice}") from error
