"""The plan of a cross-validation, from which it is resumed, and the record of each fold that is finished."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from megavit.config.checks import check_integer, check_positive
from megavit.config.recipe import MAX_FOLDS
from megavit.config.serialization import from_dict, parse_json
from megavit.errors import BundleError, ConfigError
from megavit.runtime.storage import write_file, writing
from megavit.training.run_dir import FOLDS_PLAN

T = TypeVar("T")

FOLDS, RECORD = "folds", "fold.json"


@dataclass(frozen=True, kw_only=True)
class FoldsPlan:
    """The decisions of a cross-validation that stay fixed when it is resumed.

    Attributes:
        source: data source, demo:NAME or an absolute path.
        fingerprint: fingerprint of all images, their labels, and their splits without folds.
        recipe: name of the recipe, or "auto".
        overrides: settings, nested as in `Recipe`, that replace the recipe's in the first fold; later folds have the
            resolved recipe of the first.
        folds: number of folds.
        minutes: time budget of each fold; None if it is trained by epochs.
        seed: random seed of the first fold's training; each later fold has the next.
    """

    source: str
    fingerprint: str
    recipe: str
    overrides: dict[str, Any]
    folds: int
    minutes: float | None
    seed: int

    def __post_init__(self) -> None:
        check_integer("folds", self.folds, minimum=2, maximum=MAX_FOLDS)
        check_integer("seed", self.seed, minimum=0)
        if self.minutes is not None:
            check_positive("minutes", self.minutes)


@dataclass(frozen=True, kw_only=True)
class BaselineCounts:
    """The number of a fold's test images that the model, a baseline, both or neither predict correctly."""

    method: str
    setting: str
    only_model: int
    only_baseline: int
    both: int
    neither: int


@dataclass(frozen=True, kw_only=True)
class FoldRecord:
    """What is recorded of a finished fold besides its run.

    Attributes:
        baselines: one entry for each baseline; empty unless each image has one class.
        baseline_images: number of training images that the baselines were fitted on, of `baseline_available`.
        baseline_seconds: time that they took.
    """

    baselines: list[BaselineCounts] = field(default_factory=list)
    baseline_images: int = 0
    baseline_available: int = 0
    baseline_seconds: float = 0.0


def is_cross_validation(run_dir: Path) -> bool:
    """Return whether a cross-validation was begun in `run_dir`."""
    return (run_dir / FOLDS_PLAN).is_file()


def get_fold_dir(run_dir: Path, fold: int) -> Path:
    """Return the folder of a fold's run."""
    return run_dir / FOLDS / str(fold)


def write_folds_plan(run_dir: Path, plan: FoldsPlan) -> None:
    """Write the plan that makes the cross-validation resumable, or raise OutputError."""
    with writing("the run", run_dir):
        write_file(run_dir / FOLDS_PLAN, json.dumps(asdict(plan), indent=1))


def read_folds_plan(run_dir: Path) -> FoldsPlan:
    """Return the plan of the cross-validation in `run_dir`, or raise BundleError if it is damaged."""
    return _read(run_dir / FOLDS_PLAN, FoldsPlan)


def write_record(fold_dir: Path, record: FoldRecord) -> None:
    """Write the record that marks a fold as finished, or raise OutputError."""
    with writing("the run", fold_dir):
        write_file(fold_dir / RECORD, json.dumps(asdict(record), indent=1))


def read_record(fold_dir: Path) -> FoldRecord | None:
    """Return the record of a fold; None if it is not finished."""
    path = fold_dir / RECORD
    return _read(path, FoldRecord) if path.exists() else None


def _read(path: Path, kind: type[T]) -> T:
    try:
        return from_dict(kind, parse_json(path.read_bytes(), str(path)), str(path))
    except (ConfigError, OSError) as error:
        raise BundleError(f"the run in {path.parent} cannot be resumed: {error}") from None
