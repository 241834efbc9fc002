"""Summarize metrics in lines: a headline, and rows of names and values with their intervals."""

from megavit.evaluation.metrics.bootstrap import Interval
from megavit.evaluation.metrics.classification import ClassificationMetrics
from megavit.evaluation.metrics.dispatch import Metrics
from megavit.evaluation.metrics.multilabel import MultilabelMetrics
from megavit.evaluation.metrics.regression import RegressionMetrics
from megavit.evaluation.uncertainty.measure import UncertaintyMetrics

Rows = list[tuple[str, str]]


def headline(metrics: Metrics) -> str:
    """Return a line such as "accuracy 98.3% (95%: 96.4% to 99.2%) on 359 test images"."""
    return f"{describe_primary(metrics)} on {metrics.images:,} test images"


def describe_primary(metrics: Metrics) -> str:
    """Return the primary metric with its interval, such as "accuracy 98.3% (95%: 96.4% to 99.2%)"."""
    match metrics:
        case ClassificationMetrics():
            return f"accuracy {percent(metrics.accuracy)}"
        case MultilabelMetrics():
            return f"mean average precision {percent(metrics.mean_average_precision)}"
        case RegressionMetrics():
            return f"mean absolute error {number(metrics.mae)}"


def list_metrics(metrics: Metrics) -> Rows:
    """Return the metrics of all images together."""
    match metrics:
        case ClassificationMetrics():
            rows = {
                "accuracy": metrics.accuracy,
                "top-5 accuracy": metrics.top5,
                "balanced accuracy": metrics.balanced_accuracy,
                "macro F1": metrics.macro_f1,
            }
            return [(name, percent(interval)) for name, interval in rows.items() if interval]
        case MultilabelMetrics():
            return [
                ("mean average precision", percent(metrics.mean_average_precision)),
                ("  chance level", percent(metrics.chance_level)),
                ("macro F1", percent(metrics.macro_f1)),
                ("micro F1", percent(metrics.micro_f1)),
                ("exact match", percent(metrics.exact_match)),
            ]
        case RegressionMetrics():
            return [
                ("mean absolute error", number(metrics.mae)),
                (f"  of always predicting the median, {metrics.median:.4g}", number(metrics.baseline_mae)),
                ("root mean squared error", number(metrics.rmse)),
                (f"  of always predicting the mean, {metrics.mean:.4g}", number(metrics.baseline_rmse)),
                ("R²", number(metrics.r2)),
                ("Spearman correlation", number(metrics.spearman)),
            ]


def list_uncertainty(metrics: UncertaintyMetrics) -> Rows:
    """Return the calibration error before and after calibration, and the rate of false alarms, as far as known."""
    rows = []
    if metrics.uncalibrated and metrics.calibrated:
        rows.append(("expected calibration error", percent(metrics.calibrated.ece)))
        if metrics.uncalibrated != metrics.calibrated:
            rows.append(("  before calibration", percent(metrics.uncalibrated.ece)))
    if metrics.false_positive_rate:
        rows.append(("flagged as out of distribution", percent(metrics.false_positive_rate)))
    return rows


def percent(value: Interval | float | None) -> str:
    """Return a share such as "93.4%", with its 95% interval if it has one; a dash for None."""
    return _format(value, ".1%")


def number(value: Interval | float | None) -> str:
    """Return a number with four significant digits, with its 95% interval if it has one; a dash for None."""
    return _format(value, ".4g")


def _format(value: Interval | float | None, spec: str) -> str:
    if isinstance(value, Interval):
        return f"{value.value:{spec}} (95%: {value.low:{spec}} to {value.high:{spec}})"
    return "–" if value is None else f"{value:{spec}}"
