"""What a run decided before its first step, and keeps through every stop."""

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
from megavit.runtime.storage import write_file, writing
from megavit.train.clock import TimeBudgetPlan, make_budget

MAX_THREADS = 4096
"""PyTorch would start as many as a damaged plan says."""
PLAN, RECIPE, SAMPLES, SKIPPED = "plan.json", "recipe.toml", "samples.csv", "skipped.csv"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What cannot change between a stop and going on.

    Attributes:
        source: of the data: demo:NAME, or an absolute path.
        fingerprint: of the images, their labels and splits.
        recipe: with every choice filled in.
        init: fingerprint of the weights that it begins with; None: fresh ones. Such a run keeps the steps or the
            time of each of its parts beside that part.
        steps: in all; None where the clock decides.
        time: of a run by the clock; None where the steps are given.
        threads: of torch; sums in another order would differ in their last bits.
    """

    source: str
    fingerprint: str
    recipe: Recipe
    init: str | None = None
    steps: int | None
    time: TimeBudgetPlan | None
    threads: int

    def __post_init__(self) -> None:
        if self.steps is not None:
            check_integer("steps", self.steps, minimum=1)
        if self.init is None:
            make_budget(self.steps, self.time)  # refuses both and neither
        check_integer("threads", self.threads, minimum=1)
        check_range("threads", self.threads, 1, MAX_THREADS)


def check_place(out: Path, source: str) -> None:
    """Refuse a folder with anything else in it, and one within the data, where it would become a class.

    Raises:
        OutputError: saying what to choose instead.
    """
    with writing("the run", out):
        if (out / PLAN).exists():
            folder = shlex.quote(str(out))
            raise OutputError(f"{out} holds a run already: go on with --resume {folder}, or choose another --out")
        if out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
            raise OutputError(f"{out} is not empty; choose a new folder with --out")
        check_outside_data(out, source)


def write_plan(out: Path, plan: Plan, images: LabeledImages) -> None:
    """Write the plan last, so that a folder that has one can be resumed.

    Raises:
        OutputError: when `out` cannot be written.
    """
    with writing("the run", out):
        write_samples(out / SAMPLES, images.samples, images.classes, images.target)
        write_file(out / SKIPPED, _skipped_table(images))
        write_file(out / RECIPE, dump_toml(plan.recipe))
        write_file(out / PLAN, json.dumps(asdict(plan), indent=1))


def read_plan(out: Path) -> Plan:
    """The plan of the run in `out`.

    Raises:
        BundleError: when there is none, or it is damaged.
    """
    path = out / PLAN
    try:
        return from_dict(Plan, parse_json(path.read_bytes(), str(path)), str(path))
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(
            f"there is no run to resume in {out}: it has no {PLAN}; start one with megavit train DATA"
        ) from None
    except (ConfigError, OSError) as error:
        raise BundleError(f"the run in {out} cannot be resumed: {error}") from None


def _skipped_table(images: LabeledImages) -> bytes:
    return csv_text(("name", "reason"), ((skipped.name, skipped.reason) for skipped in images.skipped))


LOCK = ".lock"


@contextlib.contextmanager
def only_process(out: Path) -> Iterator[None]:
    """Keep every other process from the run in `out`, a folder that is there, for as long as this one lives.

    Raises:
        OutputError: when another process is at it.
    """
    with contextlib.ExitStack() as stack:
        with writing("the run", out):
            file = stack.enter_context((out / LOCK).open("ab"))
        try:
            # Of the process, where an flock would live on in the workers of one that was killed.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise OutputError(
                    f"another process is training in {out}: wait until it ends or stop it, or choose another --out"
                ) from None
            # Some network file systems know no locks; nothing can be promised there.
        else:
            stack.callback((out / LOCK).unlink, missing_ok=True)
        yield


MARK = ".begun"


def mark_begun(out: Path) -> None:
    """Note in `out` which job begins it, where agents do: they may begin it again."""
    if get_elastic_run_id() is None:
        return
    with writing("the run", out):
        write_file(out / MARK, job())


def is_restart(out: Path) -> bool:
    """Whether these processes belong to the very job that began the run in `out`.

    The number of restarts does not tell: agents do not count those for a machine that has come or gone.
    """
    try:
        return get_elastic_run_id() is not None and (out / MARK).read_text() == job()
    except OSError:
        return False


def job() -> str:
    """The agents' name for this job; where it has none, the agent itself."""
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
def resumable(out: Path) -> Iterator[None]:
    """Whatever stops the run in `out` from outside, in here, is an error that names the command to go on with."""
    how_to_go_on = f"go on with megavit train --resume {shlex.quote(str(out))}"
    try:
        yield
    except Interrupted as error:
        raise Interrupted(f"{error}: {how_to_go_on}", error.exit_code - 128) from None
    except KeyboardInterrupt as interrupt:
        raise Interrupted(f"stopped at once: {how_to_go_on}", get_signal(interrupt)) from None
    except (DataError, OutputError) as error:
        raise type(error)(f"{str(error).removesuffix('.')}. When that is mended, {how_to_go_on}") from error
