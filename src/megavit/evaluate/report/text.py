"""Describe the results of comparisons and subgroups in sentences, no more strongly than the statistics allow."""

from megavit.evaluate.compare import Comparison, MetricDifference
from megavit.evaluate.metrics.bootstrap import Interval
from megavit.evaluate.metrics.dispatch import METRIC_NAMES
from megavit.evaluate.subgroups import Subgroups


def is_share(metric: str) -> bool:
    """Return whether the metric is a share in [0, 1], shown in percent, rather than in the unit of the targets."""
    return metric != METRIC_NAMES["regression"]


def format_value(metric: str, value: float) -> str:
    """Return a value such as "93.4%", or a number with four significant digits."""
    return f"{value:.1%}" if is_share(metric) else f"{value:.4g}"


def format_interval(metric: str, interval: Interval | None) -> str:
    """Return an interval such as "93.4% (95%: 92.8% to 93.9%)"; a dash for None."""
    if interval is None:
        return "–"
    value, low, high = (format_value(metric, end) for end in (interval.value, interval.low, interval.high))
    return f"{value} (95%: {low} to {high})"


def format_difference(metric: MetricDifference) -> str:
    """Return a difference such as "+1.25 points (95%: +0.50 to +2.00)", or in the unit of the targets."""
    interval, shares = metric.difference, is_share(metric.metric)
    value, low, high = (
        f"{end * 100:+.2f}" if shares else f"{end:+.4g}" for end in (interval.value, interval.low, interval.high)
    )
    return f"{value}{' points' if shares else ''} (95%: {low} to {high})"


def describe_comparison(comparison: Comparison) -> str:
    """Return a sentence on whether one model is significantly better."""
    first, test = comparison.differences[0], ""
    if comparison.p_value is not None and first.metric == METRIC_NAMES["classification"]:
        test = f"; McNemar's exact test: p {format_p_value(comparison.p_value)}"
    if comparison.better == "neither":
        return (
            f"On these {comparison.images:,} images neither is better in {first.metric} by more than chance{test}. "
            "That does not show them equal: the interval says how far apart they may be."
        )
    return (
        f"{comparison.better} is better in {first.metric} by more than chance on these {comparison.images:,} "
        f"images{test}."
    )


def describe_subgroups(subgroups: Subgroups) -> str:
    """Return a sentence on whether the groups differ significantly."""
    known = [(group.value, group.metric.value) for group in subgroups.groups if group.metric is not None]
    if len(known) < 2:
        return "Too few groups have a label to compare them."
    ends = " and ".join(
        f"{format_value(subgroups.metric, value)} in {group_name(name)}" for name, value in (known[0], known[-1])
    )
    if subgroups.significant:
        return (
            f"The groups differ by more than chance (p {format_p_value(subgroups.p_value)}): {subgroups.metric} is "
            f"between {ends}. This does not say why: harder images, fewer or other images to train on, or the column "
            "itself."
        )
    return (
        f"Chance alone may explain how far the groups lie apart (p {format_p_value(subgroups.p_value)}): "
        f"{subgroups.metric} is between {ends}. That does not show them equal: small groups hide a difference."
    )


def group_name(value: str) -> str:
    return value or "(empty)"


def format_p_value(p_value: float) -> str:
    """Return a p-value such as "= 0.034" or "< 0.0001"."""
    return f"= {p_value:.2g}" if p_value >= 1e-4 else "< 0.0001"
