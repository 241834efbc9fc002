"""Metrics on the terminal: a headline, then figures with their intervals, by the kind of target."""

from megavit.cli.output import print_table, results, share
from megavit.evaluate.intervals import Interval
from megavit.evaluate.labels import LabelsMetrics
from megavit.evaluate.measure import AnyMetrics
from megavit.evaluate.metrics import Metrics, worst_confusions
from megavit.evaluate.scores import ScoreMetrics

MOST_CLASSES_SHOWN = 30
CONFUSIONS_SHOWN = 5


def headline(metrics: AnyMetrics) -> str:
    match metrics:
        case Metrics():
            figure = f"accuracy {share(metrics.accuracy)}"
        case LabelsMetrics():
            figure = f"mean average precision {_share(metrics.mean_average_precision)}"
        case ScoreMetrics():
            figure = f"mean absolute error {_number(metrics.mae)}"
    return f"{figure} on {metrics.images:,} test images"


def show_metrics(metrics: AnyMetrics) -> None:
    results.print(headline(metrics), style="bold")
    match metrics:
        case Metrics():
            _show_classes(metrics)
        case LabelsMetrics():
            _show_labels(metrics)
        case ScoreMetrics():
            _show_scores(metrics)


def _show_classes(metrics: Metrics) -> None:
    named = {
        "accuracy": metrics.accuracy,
        "top-5 accuracy": metrics.top5,
        "balanced accuracy": metrics.balanced_accuracy,
        "macro F1": metrics.macro_f1,
    }
    print_table("", ["", ""], [[name, share(interval)] for name, interval in named.items() if interval])
    if len(metrics.classes) <= MOST_CLASSES_SHOWN:
        rows = [
            [one.name, str(one.images), *map(_percent, (one.precision, _value(one.recall), one.f1))]
            for one in metrics.per_class
        ]
        print_table("By class", ["class", "images", "precision", "recall", "F1"], rows)
    confused = [[true, predicted, str(n)] for true, predicted, n in worst_confusions(metrics, CONFUSIONS_SHOWN)]
    if confused:
        print_table("Most confused", ["is", "taken for", "images"], confused)


def _show_labels(metrics: LabelsMetrics) -> None:
    rows = [
        ["mean average precision", _share(metrics.mean_average_precision)],
        ["of a random order", f"{metrics.chance:.1%}"],
        ["macro F1", _share(metrics.macro_f1)],
        ["micro F1", _share(metrics.micro_f1)],
        ["all labels right", share(metrics.exact)],
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


def _show_scores(metrics: ScoreMetrics) -> None:
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
