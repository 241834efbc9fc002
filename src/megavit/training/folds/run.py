"""Train the model of each fold in a run of its own, resume that after a stop, and put the results together.

OUT/folds.json       the plan, needed to resume
OUT/folds/1 ...      a run for each fold, as `megavit.training.run` writes it
OUT/predictions.csv  each image with its prediction by the model that was not trained on it
OUT/bundle/          the model of a fold, or an ensemble of all
OUT/report.html      results on all images
"""

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from megavit.config.recipe import DataRecipe, Recipe
from megavit.config.serialization import merge
from megavit.data.dataset import LabeledImages
from megavit.data.load import DataSource, is_named, load_data, scan_once
from megavit.errors import ConfigError, DataError
from megavit.runtime.process_group import get_dist_context
from megavit.training.clock import Clock
from megavit.training.folds.baselines import record_baselines
from megavit.training.folds.data import FoldsData
from megavit.training.folds.finalize import finalize_folds
from megavit.training.folds.plan import (
    FoldsPlan,
    get_fold_dir,
    read_folds_plan,
    read_record,
    write_folds_plan,
    write_record,
)
from megavit.training.history import EpochRecord
from megavit.training.progress import NullReporter, Reporter
from megavit.training.report.result import Run
from megavit.training.run import resume, train
from megavit.training.run_dir import PLAN, advise_resuming, claim_run_dir, lock_run_dir, read_plan
from megavit.training.setup.resolve import draft_recipe
from megavit.training.setup.sizes import get_base_recipe
from megavit.training.setup.source import check_source, portable_name, with_columns

# Of a time budget: share, and least seconds, for predicting all images and for the report.
FINISH_SHARE, FINISH_SECONDS = 0.03, 3.0
MIN_FOLD_SECONDS = 1.0


def train_folds(
    source: DataSource,
    run_dir: Path,
    *,
    recipe: str,
    overrides: dict[str, Any],
    reporter: Reporter,
    clock: Clock | None = None,
    report: bool = True,
) -> Run:
    """Train a model for each of `data.folds` folds of `source`, tested on the fold, in the new folder `run_dir`.

    A time budget is divided among the folds. For arguments and errors see `megavit.training.run.train`.
    """
    clock, dist = clock or Clock(), get_dist_context()
    if dist.is_distributed:
        raise ConfigError(
            "a cross-validation is trained by one process, fold after fold: leave out --nproc, or train each fold by "
            "itself with the settings folds and fold of [data] in a recipe file"
        )
    overrides = with_columns(overrides, source)
    draft = draft_recipe(recipe, overrides, dist)
    claim_run_dir(run_dir, source)
    with lock_run_dir(run_dir):
        scanned = scan_once(source, draft.data, lambda done, total: reporter.progress("checking images", done, total))
        dataset = load_data(scanned, draft.data)
        plan = make_folds_plan(dataset, recipe, overrides, clock)
        check_folds(load_fold(scanned, draft.data, 1), plan.folds)
        write_folds_plan(run_dir, plan)
        return _run_folds(run_dir, plan, scanned, reporter, report=report)


def resume_folds(run_dir: Path, *, reporter: Reporter, source: DataSource | None = None, report: bool = True) -> Run:
    """Continue the cross-validation in `run_dir`: finished folds are kept, and the one that was stopped is resumed.

    For arguments and errors see `megavit.training.run.resume`.
    """
    plan = read_folds_plan(run_dir)
    with lock_run_dir(run_dir):
        location = check_source(plan.source, run_dir) if source is None else source
        recipe = draft_recipe(plan.recipe, plan.overrides, get_dist_context()).data
        scanned = scan_once(location, recipe, lambda done, total: reporter.progress("checking images", done, total))
        dataset = load_data(scanned, recipe)
        if dataset.fingerprint() != plan.fingerprint:
            raise DataError(
                f"{dataset.source} has changed since the run began: its images, labels or splits differ: restore them, "
                "or start a new run"
            )
        if source is not None and is_named(source):
            plan = replace(plan, source=portable_name(dataset))
            write_folds_plan(run_dir, plan)
            reporter.say(f"the images are the same, and are now read from {plan.source}")
        return _run_folds(run_dir, plan, scanned, reporter, report=report)


def load_fold(source: DataSource, recipe: DataRecipe, fold: int) -> LabeledImages:
    """Return the images of `source` with the splits of a fold."""
    return load_data(source, replace(recipe, fold=fold), required_splits=("val",))


def check_folds(dataset: LabeledImages, folds: int) -> None:
    """Raise DataError if the images are too few for the folds."""
    if not dataset.in_split("test") or not dataset.in_split("val") or len(dataset.samples) < 2 * folds:
        raise DataError(
            f"{len(dataset.samples):,} images of {dataset.source} are too few for {folds} folds, each with images to "
            "train, validate and test on: take fewer folds (--folds), or add images"
        )


def make_folds_plan(dataset: LabeledImages, recipe: str, overrides: dict[str, Any], clock: Clock) -> FoldsPlan:
    """Return the plan of a cross-validation that began with `clock`, and whose images have been read."""
    merged = merge(get_base_recipe(recipe, dataset), overrides, "the recipe")
    folds, minutes = merged.data.folds or 0, None
    if merged.run.epochs is None:
        total = merged.run.minutes * 60
        left = total - clock.elapsed - max(FINISH_SHARE * total, FINISH_SECONDS)
        minutes = max(left / folds, MIN_FOLD_SECONDS) / 60
    return FoldsPlan(
        source=portable_name(dataset),
        fingerprint=dataset.fingerprint(),
        recipe=recipe,
        overrides=overrides,
        folds=folds,
        minutes=minutes,
        seed=merged.run.seed,
    )


def _run_folds(run_dir: Path, plan: FoldsPlan, scanned: DataSource, reporter: Reporter, *, report: bool) -> Run:
    fold_reporter = _FoldReporter(reporter)
    with advise_resuming(run_dir):
        for fold in range(1, plan.folds + 1):
            folder = get_fold_dir(run_dir, fold)
            if read_record(folder) is not None:
                continue
            budget = "" if plan.minutes is None else f", {plan.minutes:.2g} minutes"
            reporter.say(f"fold {fold} of {plan.folds}{budget}")
            run = _run_fold(run_dir, plan, scanned, fold, fold_reporter)
            write_record(folder, record_baselines(run.baselines))
        recipe = read_plan(get_fold_dir(run_dir, 1)).recipe
        datasets = [load_fold(scanned, recipe.data, fold) for fold in range(1, plan.folds + 1)]
        whole = load_data(scanned, replace(recipe.data, folds=None, fold=None))
        return finalize_folds(run_dir, FoldsData(whole, datasets), recipe, reporter, report=report)


def _run_fold(run_dir: Path, plan: FoldsPlan, scanned: DataSource, fold: int, reporter: Reporter) -> Run:
    folder = get_fold_dir(run_dir, fold)
    if (folder / PLAN).exists():
        return resume(folder, reporter=reporter, source=scanned, report=False)
    if folder.exists():  # stopped before its plan was complete
        shutil.rmtree(folder)
    overrides = plan.overrides
    if fold > 1:  # the same model and settings in each fold
        overrides = asdict(read_plan(get_fold_dir(run_dir, 1)).recipe)
    changes: dict[str, dict[str, Any]] = {"data": {"fold": fold}, "run": {"seed": plan.seed + fold - 1}}
    if plan.minutes is not None:
        changes["run"] |= {"minutes": plan.minutes, "epochs": None}
    overrides = overrides | {table: (overrides.get(table) or {}) | keys for table, keys in changes.items()}
    return train(scanned, folder, recipe=plan.recipe, overrides=overrides, reporter=reporter, report=False)


class _FoldReporter(NullReporter):
    """A reporter of the folds' runs, which says of a later fold only what was not said of an earlier one."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter, self.said = reporter, set[str]()
        self.has_data = False

    def say(self, text: str) -> None:
        if text not in self.said:
            self.said.add(text)
            self.reporter.say(text)

    def progress(self, what: str, done: int, total: int) -> None:
        self.reporter.progress(what, done, total)

    def data(self, dataset: LabeledImages) -> None:
        if not self.has_data:
            self.has_data = True
            self.reporter.data(dataset)
            self.reporter.say(f"{dataset.split_description}; other folds alike")

    def plan(self, recipe: Recipe, steps: int, parameters: int) -> None:
        self.reporter.plan(recipe, steps, parameters)

    def step(self, step: int, steps: int, loss: float) -> None:
        self.reporter.step(step, steps, loss)

    def epoch(self, record: EpochRecord) -> None:
        self.reporter.epoch(record)
