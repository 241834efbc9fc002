"""Print metrics with their confidence intervals, by the kind of target."""

from megavit.cli.console import notes, print_json, print_table, results
from megavit.config.names import shell_quote
from megavit.evaluation.metrics.bootstrap import Interval
from megavit.evaluation.metrics.classification import ClassificationMetrics, list_confusions
from megavit.evaluation.metrics.dispatch import Metrics
from megavit.evaluation.metrics.multilabel import MultilabelMetrics
from megavit.evaluation.metrics.regression import RegressionMetrics
from megavit.evaluation.report.summary import Rows, headline, list_metrics, list_uncertainty, percent
from megavit.evaluation.report.text import describe_subgroups, format_interval, format_value, group_name
from megavit.evaluation.robustness.robustness import Robustness
from megavit.evaluation.subgroups import Subgroups
from megavit.evaluation.uncertainty.measure import UncertaintyMetrics
from megavit.training.report.baselines import describe_baselines
from megavit.training.report.result import Run

MAX_CLASSES_SHOWN = 30
CONFUSIONS_SHOWN = 5


def show_metrics(metrics: Metrics) -> None:
    results.print(headline(metrics), style="bold")
    match metrics:
        case ClassificationMetrics():
            _show_classification(metrics)
        case MultilabelMetrics():
            _show_multilabel(metrics)
        case RegressionMetrics():
            _print_rows("", list_metrics(metrics))


def _show_classification(metrics: ClassificationMetrics) -> None:
    _print_rows("", list_metrics(metrics))
    if len(metrics.classes) <= MAX_CLASSES_SHOWN:
        rows = [
            [one.name, str(one.images), *map(percent, (one.precision, _value(one.recall), one.f1))]
            for one in metrics.per_class
        ]
        print_table("By class", ["class", "images", "precision", "recall", "F1"], rows)
    confusions = [[true, predicted, str(n)] for true, predicted, n in list_confusions(metrics, CONFUSIONS_SHOWN)]
    if confusions:
        print_table("Most confused", ["true class", "predicted", "images"], confusions)


def _show_multilabel(metrics: MultilabelMetrics) -> None:
    _print_rows("", list_metrics(metrics))
    if len(metrics.per_label) <= MAX_CLASSES_SHOWN:
        rows = [
            [
                one.name,
                str(one.images),
                percent(_value(one.average_precision)),
                f"{one.threshold:.2f}",
                *map(percent, (one.precision, _value(one.recall), one.f1)),
            ]
            for one in metrics.per_label
        ]
        columns = ["label", "images", "average precision", "threshold", "precision", "recall", "F1"]
        print_table("By label", columns, rows)


def _print_rows(title: str, rows: Rows) -> None:
    print_table(title, ["", ""], [list(row) for row in rows])


def _value(interval: Interval | None) -> float | None:
    return None if interval is None else interval.value


def show_uncertainty(metrics: UncertaintyMetrics) -> None:
    if rows := list_uncertainty(metrics):
        _print_rows("Uncertainty", rows)
    if metrics.coverages:
        has_sets = metrics.coverages[0].worst_class is not None
        columns = ["coverage requested", "measured", "mean set size" if has_sets else "mean width"]
        sizes = [[f"{one.requested:.0%}", percent(one.empirical), f"{one.mean_size:.4g}"] for one in metrics.coverages]
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


def show_trained(trained: Run, *, as_json: bool) -> None:
    if as_json:
        print_json(trained.to_dict())
        return
    if trained.baselines and trained.baselines.warning:
        results.print(trained.baselines.warning, style="bold yellow")
        results.print(trained.baselines.advice or "")
    results.print(trained.headline, style="bold")
    for sentence in trained.cross_validation.describe() if trained.cross_validation else []:
        results.print(sentence)
    for sentence in trained.pseudo_labels.describe() if trained.pseudo_labels else []:
        results.print(sentence)
    if trained.baselines:
        results.print(describe_baselines(trained.baselines))
    if trained.uncertainty.calibrated:
        results.print(f"expected calibration error {trained.uncertainty.calibrated.ece.value:.1%}")
    results.print(f"report: {trained.report}")
    if trained.cross_validation:
        results.print(f"predictions: {trained.folder / 'predictions.csv'}")
    results.print(f"bundle: {trained.bundle}")
    results.print(f"try it: megavit predict {shell_quote(str(trained.folder))} IMAGE ...")
