"""Print metrics with their confidence intervals, by the kind of target."""

from megavit.cli.console import notes, print_json, print_table, results
from megavit.config.names import shell_quote
from megavit.evaluation.metrics.bootstrap import Interval
from megavit.evaluation.metrics.classification import ClassificationMetrics, list_confusions
from megavit.evaluation.metrics.dispatch import Metrics
from megavit.evaluation.metrics.multilabel import MultilabelMetrics
from megavit.evaluation.metrics.regression import RegressionMetrics
from megavit.evaluation.report.html import percent
from megavit.evaluation.report.text import describe_subgroups, format_interval, format_value, group_name
from megavit.evaluation.robustness.robustness import Robustness
from megavit.evaluation.subgroups import Subgroups
from megavit.evaluation.uncertainty.uncertainty import UncertaintyMetrics
from megavit.training.report.baselines import BaselineSummary
from megavit.training.report.finalize import TrainResult

MAX_CLASSES_SHOWN = 30
CONFUSIONS_SHOWN = 5


def headline(metrics: Metrics) -> str:
    match metrics:
        case ClassificationMetrics():
            primary = f"accuracy {_percent(metrics.accuracy)}"
        case MultilabelMetrics():
            primary = f"mean average precision {_percent(metrics.mean_average_precision)}"
        case RegressionMetrics():
            primary = f"mean absolute error {_number(metrics.mae)}"
    return f"{primary} on {metrics.images:,} test images"


def show_metrics(metrics: Metrics) -> None:
    results.print(headline(metrics), style="bold")
    match metrics:
        case ClassificationMetrics():
            _show_classification(metrics)
        case MultilabelMetrics():
            _show_multilabel(metrics)
        case RegressionMetrics():
            _show_regression(metrics)


def _show_classification(metrics: ClassificationMetrics) -> None:
    intervals = {
        "accuracy": metrics.accuracy,
        "top-5 accuracy": metrics.top5,
        "balanced accuracy": metrics.balanced_accuracy,
        "macro F1": metrics.macro_f1,
    }
    print_table("", ["", ""], [[name, _percent(interval)] for name, interval in intervals.items() if interval])
    if len(metrics.classes) <= MAX_CLASSES_SHOWN:
        rows = [
            [one.name, str(one.images), *map(_percent, (one.precision, _value(one.recall), one.f1))]
            for one in metrics.per_class
        ]
        print_table("By class", ["class", "images", "precision", "recall", "F1"], rows)
    confusions = [[true, predicted, str(n)] for true, predicted, n in list_confusions(metrics, CONFUSIONS_SHOWN)]
    if confusions:
        print_table("Most confused", ["true class", "predicted", "images"], confusions)


def _show_multilabel(metrics: MultilabelMetrics) -> None:
    rows = [
        ["mean average precision", _percent(metrics.mean_average_precision)],
        ["  chance level", _percent(metrics.chance_level)],
        ["macro F1", _percent(metrics.macro_f1)],
        ["micro F1", _percent(metrics.micro_f1)],
        ["exact match", _percent(metrics.exact_match)],
    ]
    print_table("", ["", ""], rows)
    if len(metrics.per_label) <= MAX_CLASSES_SHOWN:
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


def _show_regression(metrics: RegressionMetrics) -> None:
    rows = [
        ["mean absolute error", _number(metrics.mae)],
        [f"  of always predicting the median, {metrics.median:.4g}", _number(metrics.baseline_mae)],
        ["root mean squared error", _number(metrics.rmse)],
        [f"  of always predicting the mean, {metrics.mean:.4g}", _number(metrics.baseline_rmse)],
        ["R²", _number(metrics.r2)],
        ["Spearman correlation", _number(metrics.spearman)],
    ]
    print_table("", ["", ""], rows)


def _percent(value: Interval | float | None) -> str:
    return _format(value, ".1%")


def _number(value: Interval | float | None) -> str:
    return _format(value, ".4g")


def _format(value: Interval | float | None, spec: str) -> str:
    if isinstance(value, Interval):
        return f"{value.value:{spec}} (95%: {value.low:{spec}} to {value.high:{spec}})"
    return "–" if value is None else f"{value:{spec}}"


def _value(interval: Interval | None) -> float | None:
    return None if interval is None else interval.value


def show_uncertainty(metrics: UncertaintyMetrics) -> None:
    rows = []
    if metrics.uncalibrated and metrics.calibrated:
        rows.append(["expected calibration error", _percent(metrics.calibrated.ece)])
        if metrics.uncalibrated != metrics.calibrated:
            rows.append(["  before calibration", _percent(metrics.uncalibrated.ece)])
    if metrics.false_positive_rate:
        rows.append(["flagged as out of distribution", _percent(metrics.false_positive_rate)])
    if rows:
        print_table("Uncertainty", ["", ""], rows)
    if metrics.coverages:
        has_sets = metrics.coverages[0].worst_class is not None
        columns = ["coverage requested", "measured", "mean set size" if has_sets else "mean width"]
        sizes = [[f"{one.requested:.0%}", _percent(one.empirical), f"{one.mean_size:.4g}"] for one in metrics.coverages]
        print_table("", columns, sizes)


def show_subgroups(subgroups: Subgroups) -> None:
    """Print one row per group, the worst first, and whether the groups differ significantly."""
    rows = [
        [group_name(group.value), f"{group.images:,}", format_interval(subgroups.metric, group.metric)]
        for group in subgroups.groups
    ]
    print_table(f"By {subgroups.column}", [subgroups.column, "images", subgroups.metric], rows)
    results.print(describe_subgroups(subgroups))


def show_robustness(robustness: Robustness) -> None:
    """Print one row per corruption and one column per severity."""
    metric = robustness.metric
    if robustness.images < robustness.available:
        notes.print(
            f"corrupted: a sample of {robustness.images:,} of the {robustness.available:,} images", style="yellow"
        )
    rows = [
        [
            one.name,
            *(format_value(metric, interval.value) for interval in one.severities),
            format_interval(metric, one.mean),
        ]
        for one in robustness.corruptions
    ]
    severities = [str(severity) for severity, _ in enumerate(robustness.corruptions[0].severities, start=1)]
    print_table(f"Corrupted images, by severity: {metric}", ["", *severities, "mean"], rows)
    results.print(
        f"clean {format_interval(metric, robustness.clean)}, "
        f"corrupted on average {format_interval(metric, robustness.mean)}"
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
                "baselines": trained.baselines.to_dict() if trained.baselines else None,
            }
        )
        return
    if trained.baselines and trained.baselines.warning:
        results.print(trained.baselines.warning, style="bold yellow")
        results.print(trained.baselines.advice or "")
    results.print(headline(trained.metrics), style="bold")
    if trained.baselines:
        results.print(describe_baselines(trained.baselines))
    if trained.uncertainty.calibrated:
        results.print(f"expected calibration error {trained.uncertainty.calibrated.ece.value:.1%}")
    results.print(f"report: {trained.report}")
    results.print(f"bundle: {trained.bundle}")
    results.print(f"try it: megavit predict {shell_quote(str(trained.run_dir))} IMAGE ...")


def describe_baselines(baselines: BaselineSummary) -> str:
    """Return a line such as "model 81.2%  |  thumbnails: nearest neighbors 53.5%, logistic regression 47.0%"."""
    listed = ", ".join(f"{result.method} {percent(result.accuracy)}" for result in baselines.results)
    return f"model {percent(baselines.accuracy)}  |  thumbnails: {listed}"
