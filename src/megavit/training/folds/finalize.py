"""Put the finished folds of a cross-validation together: figures for all images, the bundle, and the report."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from megavit.config.recipe import Recipe
from megavit.config.serialization import dump_toml
from megavit.data.dataset import LabeledImages
from megavit.data_check.quick_checks import data_warnings
from megavit.evaluation.metrics.classification import ClassificationMetrics
from megavit.evaluation.metrics.dispatch import Metrics, compute_metrics, make_primary_metric
from megavit.evaluation.uncertainty.measure import compute_pooled_uncertainty
from megavit.predict.predictor import load
from megavit.runtime.device import device_name, pick_device
from megavit.runtime.storage import write_file, writing
from megavit.training.folds.baselines import pool_baselines
from megavit.training.folds.outputs import (
    FoldOutputs,
    compute_pooled_metrics,
    pool_target,
    predict_fold,
    predict_samples,
    write_predictions,
)
from megavit.training.folds.plan import get_fold_dir, read_record
from megavit.training.folds.report import FoldsReport, write_folds_report
from megavit.training.progress import Reporter
from megavit.training.report.baselines import BaselineSummary
from megavit.training.report.cross_validation import CrossValidation, FoldResult, find_median_fold
from megavit.training.report.examples import select_examples
from megavit.training.report.finalize import BUNDLE
from megavit.training.report.report import DataSummary
from megavit.training.report.result import Run
from megavit.weights.bundle.bundle import copy_bundle, read_info
from megavit.weights.bundle.info import library_versions

PREDICTIONS = "predictions.csv"


def finalize_folds(
    run_dir: Path,
    whole: LabeledImages,
    datasets: Sequence[LabeledImages],
    recipe: Recipe,
    reporter: Reporter,
    *,
    report: bool,
) -> Run:
    """Write the bundle, the predictions and the report of a cross-validation whose folds are finished.

    Args:
        whole: all images, with those that the data defines for test, which are in no fold.
        datasets: images with the splits of each fold.
        recipe: resolved recipe of the first fold.
    """
    outputs = [
        predict_fold(fold, get_fold_dir(run_dir, fold), dataset, recipe.run.device, reporter.progress)
        for fold, dataset in enumerate(datasets, start=1)
    ]
    with writing("the run", run_dir):
        write_file(run_dir / PREDICTIONS, write_predictions(outputs, whole))
    metrics = compute_pooled_metrics(outputs, whole.classes)
    found = _summarize(run_dir, outputs, datasets, metrics)
    bundle = _write_bundle(run_dir, found)
    found = replace(found, test=_measure_test(bundle, whole, datasets[0], recipe, reporter))
    uncertainty = compute_pooled_uncertainty([fold.test for fold in outputs])
    baselines = _pool_baselines(run_dir, len(datasets), metrics)
    run = Run(
        folder=run_dir,
        bundle=bundle,
        report=None,
        metrics=metrics,
        uncertainty=uncertainty,
        baselines=baselines,
        cross_validation=found,
    )
    if not report:
        return run
    contents = _make_report(run, found, outputs, datasets[0], recipe)
    return replace(run, report=write_folds_report(run_dir, contents))


def _summarize(
    run_dir: Path, outputs: Sequence[FoldOutputs], datasets: Sequence[LabeledImages], metrics: Metrics
) -> CrossValidation:
    kind = outputs[0].target.kind
    measured = [make_primary_metric(fold.test.predicted, fold.test.targets, kind).interval() for fold in outputs]
    always_val = set.intersection(*({sample.name for sample in dataset.in_split("val")} for dataset in datasets))
    in_folds = {sample.name for fold in outputs for sample in fold.samples} | always_val
    return CrossValidation(
        kind=kind,
        metrics=metrics,
        folds=tuple(
            FoldResult(
                fold=fold.fold,
                run=str(get_fold_dir(run_dir, fold.fold)),
                images=dataset.split_sizes(),
                metric=metric,
            )
            for fold, dataset, metric in zip(outputs, datasets, measured, strict=True)
        ),
        untested=sum(sample.name not in in_folds for sample in datasets[0].samples),
        selected=find_median_fold(kind, measured),
    )


def _write_bundle(run_dir: Path, found: CrossValidation) -> Path:
    """Copy the bundle of the selected fold, and add what the cross-validation found; return its folder."""
    source, bundle = get_fold_dir(run_dir, found.selected) / BUNDLE, run_dir / BUNDLE
    info = read_info(source)
    record = {
        "folds": len(found.folds),
        "fold": found.selected,
        "images": found.metrics.images,
        "summary": found.headline,
    }
    if bundle.exists():  # of an earlier end of this run
        shutil.rmtree(bundle)
    copy_bundle(source, bundle, replace(info, data=info.data | {"cross_validation": record}))
    return bundle


def _measure_test(
    bundle: Path, whole: LabeledImages, fold: LabeledImages, recipe: Recipe, reporter: Reporter
) -> Metrics | None:
    """Return the metrics of the bundle on the test images that are in no fold; None without any."""
    names = {sample.name for sample in fold.samples}
    samples = tuple(sample for sample in whole.samples if sample.name not in names)
    if not samples:
        return None
    predictor = load(bundle, device=recipe.run.device)
    held_out = predict_samples(predictor, whole, samples, lambda done, total: reporter.progress("testing", done, total))
    return compute_metrics(held_out.predicted, held_out.targets, whole.classes, predictor.info.target)


def _pool_baselines(run_dir: Path, folds: int, metrics: Metrics) -> BaselineSummary | None:
    records = [read_record(get_fold_dir(run_dir, fold)) for fold in range(1, folds + 1)]
    if not isinstance(metrics, ClassificationMetrics):
        return None
    return pool_baselines([record for record in records if record is not None], metrics.accuracy.value)


def _make_report(
    run: Run,
    found: CrossValidation,
    outputs: Sequence[FoldOutputs],
    dataset: LabeledImages,
    recipe: Recipe,
) -> FoldsReport:
    tested = replace(dataset, samples=tuple(replace(one, split="test") for fold in outputs for one in fold.samples))
    predicted = torch.cat([fold.test.predicted for fold in outputs])
    targets = torch.cat([fold.test.targets for fold in outputs])
    regression = (targets.tolist(), predicted.tolist()) if found.kind == "regression" else None
    return FoldsReport(
        title=f"Cross-validation in {len(outputs)} folds on {dataset.source}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        data=_summarize_data(dataset, outputs),
        recipe_toml=dump_toml(recipe),
        environment=[("device", device_name(pick_device(recipe.run.device))), *library_versions().items()],
        cross_validation=found,
        uncertainty=run.uncertainty,
        examples=select_examples(tested, predicted, pool_target([fold.target for fold in outputs])),
        regression=regression,
        baselines=run.baselines,
        bundle=str(run.folder),
    )


def _summarize_data(dataset: LabeledImages, outputs: Sequence[FoldOutputs]) -> DataSummary:
    tested = [replace(dataset, samples=fold.samples).class_counts()["test"] for fold in outputs]
    return DataSummary(
        source=dataset.source,
        division=f"{dataset.split_description}; the other folds alike",
        counts={f"fold {fold.fold}": counts for fold, counts in zip(outputs, tested, strict=True)},
        images={f"fold {fold.fold}": len(fold.samples) for fold in outputs},
        skipped=dataset.skipped_by_reason(),
        findings=data_warnings(dataset),
    )
