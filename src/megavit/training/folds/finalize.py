"""Put the finished folds of a cross-validation together: figures for all images, the bundle, and the report."""

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
from megavit.runtime.device import device_name, pick_device
from megavit.runtime.storage import write_file, writing
from megavit.training.folds.baselines import pool_baselines
from megavit.training.folds.bundle import choose_model, predict_test, write_bundle
from megavit.training.folds.data import FoldsData
from megavit.training.folds.outputs import (
    FoldOutputs,
    compute_pooled_metrics,
    pool_target,
    predict_fold,
    write_predictions,
)
from megavit.training.folds.plan import get_fold_dir, read_record
from megavit.training.folds.report import FoldsReport, write_folds_report
from megavit.training.progress import Reporter
from megavit.training.report.baselines import BaselineSummary
from megavit.training.report.cross_validation import CrossValidation, FoldResult, find_median_fold
from megavit.training.report.examples import select_examples
from megavit.training.report.report import DataSummary
from megavit.training.report.result import Run
from megavit.weights.bundle.info import library_versions

PREDICTIONS = "predictions.csv"


def finalize_folds(run_dir: Path, data: FoldsData, recipe: Recipe, reporter: Reporter, *, report: bool) -> Run:
    """Write the bundle, the predictions and the report of a cross-validation whose folds are finished.

    `recipe` is the resolved recipe of the first fold.
    """
    classes = data.whole.classes
    outputs = [
        predict_fold(fold, get_fold_dir(run_dir, fold), dataset, recipe.run.device, reporter.progress)
        for fold, dataset in enumerate(data.folds, start=1)
    ]
    with writing("the run", run_dir):
        write_file(run_dir / PREDICTIONS, write_predictions(outputs, data.whole))
    metrics = compute_pooled_metrics(outputs, classes)
    chosen, found = choose_model(run_dir, outputs, _summarize(run_dir, outputs, data, metrics))
    found = replace(found, minutes=recipe.run.minutes if recipe.run.epochs is None else None)
    test = predict_test(chosen, data, recipe.run.device, reporter)
    if test is not None:
        found = replace(found, test=compute_metrics(test.predicted, test.targets, classes, chosen.info.target))
    bundle = write_bundle(run_dir, chosen, found, data, test)
    uncertainty = compute_pooled_uncertainty([fold.test for fold in outputs])
    baselines = _pool_baselines(run_dir, len(data.folds), metrics, recipe)
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
    contents = _make_report(run, found, outputs, data.folds[0], recipe)
    return replace(run, report=write_folds_report(run_dir, contents))


def _summarize(run_dir: Path, outputs: Sequence[FoldOutputs], data: FoldsData, metrics: Metrics) -> CrossValidation:
    kind = outputs[0].target.kind
    measured = [make_primary_metric(fold.test.predicted, fold.test.targets, kind).interval() for fold in outputs]
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
            for fold, dataset, metric in zip(outputs, data.folds, measured, strict=True)
        ),
        untested=data.count_untested(),
        selected=find_median_fold(kind, measured),
    )


def _pool_baselines(run_dir: Path, folds: int, metrics: Metrics, recipe: Recipe) -> BaselineSummary | None:
    records = [read_record(get_fold_dir(run_dir, fold)) for fold in range(1, folds + 1)]
    if not isinstance(metrics, ClassificationMetrics):
        return None
    found = [record for record in records if record is not None]
    return pool_baselines(found, metrics.accuracy.value, is_pretrained=recipe.model.source is not None)


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
