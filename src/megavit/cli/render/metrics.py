"""Metrics on the terminal: a headline, then figures with their intervals, by the kind of target."""

import shlex

from megavit.cli.console import notes, print_json, print_table, results, share
from megavit.evaluate.metrics.bootstrap import Interval
from megavit.evaluate.metrics.classification import ClassificationMetrics, list_confusions
from megavit.evaluate.metrics.dispatch import Metrics
from megavit.evaluate.metrics.multilabel import MultilabelMetrics
from megavit.evaluate.metrics.regression import RegressionMetrics
from megavit.evaluate.report.text import describe_subgroups, format_interval, format_value, group_name
from megavit.evaluate.robustness.robustness import Robustness
from megavit.evaluate.subgroups import Subgroups
from megavit.evaluate.uncertainty.uncertainty import UncertaintyMetrics
from megavit.train.report.finalize import TrainResult

MOST_CLASSES_SHOWN = 30
CONFUSIONS_SHOWN = 5


def headline(metrics: Metrics) -> str:
    match metrics:
        case ClassificationMetrics():
            figure = f"accuracy {share(metrics.accuracy)}"
        case MultilabelMetrics():
            figure = f"mean average precision {_share(metrics.mean_average_precision)}"
        case RegressionMetrics():
            figure = f"mean absolute error {_number(metrics.mae)}"
    return f"{figure} on {metrics.images:,} test images"


def show_metrics(metrics: Metrics) -> None:
    results.print(headline(metrics), style="bold")
    match metrics:
        case ClassificationMetrics():
            _show_classes(metrics)
        case MultilabelMetrics():
            _show_labels(metrics)
        case RegressionMetrics():
            _show_scores(metrics)


def _show_classes(metrics: ClassificationMetrics) -> None:
    named = {
        "accuracy": metrics.accuracy,
        "top-5 accuracy": metrics.top5,
        "balanced accuracy": metrics.balanced_accuracy,
        "macro F1": metrics.macro_f1,
    }
    print_table("", ["", ""], [[group_name, share(interval)] for group_name, interval in named.items() if interval])
    if len(metrics.classes) <= MOST_CLASSES_SHOWN:
        rows = [
            [one.name, str(one.images), *map(_percent, (one.precision, _value(one.recall), one.f1))]
            for one in metrics.per_class
        ]
        print_table("By class", ["class", "images", "precision", "recall", "F1"], rows)
    confused = [[true, predicted, str(n)] for true, predicted, n in list_confusions(metrics, CONFUSIONS_SHOWN)]
    if confused:
        print_table("Most confused", ["is", "taken for", "images"], confused)


def _show_labels(metrics: MultilabelMetrics) -> None:
    rows = [
        ["mean average precision", _share(metrics.mean_average_precision)],
        ["chance level", f"{metrics.chance_level:.1%}"],
        ["macro F1", _share(metrics.macro_f1)],
        ["micro F1", _share(metrics.micro_f1)],
        ["exact match", share(metrics.exact_match)],
    ]
    print_table("", ["", ""], rows)
    if len(metrics.per_label) <= MOST_CLASSES_SHOWN:
        rows = [
            [
                one.name,
                str(one.images),
                _percent(_value(one.average_precision)),
                f"{one.threshold:.2f}",
                *map(_percent, (one.precision, _value(one.recall), one.f1)),
            ]
            for one in metrics.per_label
        ]
        columns = ["label", "images", "average precision", "threshold", "precision", "recall", "F1"]
        print_table("By label", columns, rows)


def _show_scores(metrics: RegressionMetrics) -> None:
    rows = [
        ["mean absolute error", _number(metrics.mae)],
        [f"of always saying {metrics.median:.4g}, the median", f"{metrics.baseline_mae:.4g}"],
        ["root mean squared error", _number(metrics.rmse)],
        [f"of always saying {metrics.mean:.4g}, the mean", f"{metrics.baseline_rmse:.4g}"],
        ["R²", _number(metrics.r2)],
        ["Spearman correlation", _number(metrics.spearman)],
    ]
    print_table("", ["", ""], rows)


def _share(interval: Interval | None) -> str:
    return "–" if interval is None else share(interval)


def _number(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    return f"{interval.value:.4g} (95%: {interval.low:.4g} to {interval.high:.4g})"


def _value(interval: Interval | None) -> float | None:
    return None if interval is None else interval.value


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def show_uncertainty(uncertainty: UncertaintyMetrics) -> None:
    rows = []
    if uncertainty.uncalibrated and uncertainty.calibrated:
        rows.append(["expected calibration error", share(uncertainty.calibrated.ece)])
        if uncertainty.uncalibrated != uncertainty.calibrated:
            rows.append(["before calibration", share(uncertainty.uncalibrated.ece)])
    if uncertainty.false_positive_rate:
        rows.append(["flagged as out of distribution", share(uncertainty.false_positive_rate)])
    if rows:
        print_table("Uncertainty", ["", ""], rows)
    if uncertainty.coverages:
        of_sets = uncertainty.coverages[0].worst_class is not None
        columns = ["coverage requested", "measured", "mean set size" if of_sets else "interval width"]
        sizes = [
            [f"{one.requested:.0%}", share(one.empirical), f"{one.mean_size:.4g}"] for one in uncertainty.coverages
        ]
        print_table("", columns, sizes)


def show_calibration(uncertainty: UncertaintyMetrics) -> None:
    """Print the calibration error in a line."""
    if uncertainty.calibrated:
        results.print(f"expected calibration error {uncertainty.calibrated.ece.value:.1%}")


def show_subgroups(subgroups: Subgroups) -> None:
    """Print a row for each group, the worst first, and whether they differ by more than chance."""
    rows = [
        [group_name(group.value), f"{group.images:,}", format_interval(subgroups.metric, group.metric)]
        for group in subgroups.groups
    ]
    print_table(f"By {subgroups.column}", [subgroups.column, "images", subgroups.metric], rows)
    results.print(describe_subgroups(subgroups))


def show_robustness(robustness: Robustness) -> None:
    """Print a row for each corruption, a column for each severity."""
    if robustness.images < robustness.available:
        notes.print(
            f"corrupted: a stratified sample of {robustness.images:,} of the {robustness.available:,} images",
            style="yellow",
        )
    rows = [
        [
            one.name,
            *(format_value(robustness.metric, interval.value) for interval in one.severities),
            format_interval(robustness.metric, one.mean),
        ]
        for one in robustness.corruptions
    ]
    severities = [str(i) for i, _ in enumerate(robustness.corruptions[0].severities, start=1)]
    print_table(f"Corrupted images, by severity: {robustness.metric}", ["", *severities, "mean"], rows)
    results.print(
        f"without corruption {format_interval(robustness.metric, robustness.clean)}, "
        f"corrupted on average {format_interval(robustness.metric, robustness.mean)}"
    )


def show_trained(trained: TrainResult, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "run": str(trained.run_dir),
                "bundle": str(trained.bundle),
                "report": str(trained.report),
                "test": trained.metrics.to_dict(),
                "uncertainty": trained.uncertainty.to_dict(),
            }
        )
        return
    results.print(headline(trained.metrics), style="bold")
    show_calibration(trained.uncertainty)
    results.print(f"report: {trained.report}")
    results.print(f"bundle: {trained.bundle}")
    results.print(f"try it: megavit predict {shlex.quote(str(trained.run_dir))} IMAGE ...")
