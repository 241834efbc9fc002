"""Describe the results of comparisons and subgroups in sentences, no more strongly than the statistics allow."""

from megavit.evaluation.compare import Comparison, MetricDifference
from megavit.evaluation.metrics.bootstrap import Interval
from megavit.evaluation.metrics.dispatch import METRIC_NAMES
from megavit.evaluation.subgroups import Subgroups


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
            f"On these {comparison.images:,} images, the difference in {first.metric} may be chance{test}. "
            "This does not show that the models are equal: the interval is the range of plausible differences."
        )
    return f"{comparison.better} is significantly better in {first.metric} on these {comparison.images:,} images{test}."


def describe_subgroups(subgroups: Subgroups) -> str:
    """Return a sentence on whether the groups differ significantly."""
    known = [(group.value, group.metric.value) for group in subgroups.groups if group.metric is not None]
    if len(known) < 2:
        return "Too few groups have a label to compare them."
    ends = " to ".join(
        f"{format_value(subgroups.metric, value)} in {group_name(name)}" for name, value in (known[0], known[-1])
    )
    if subgroups.significant:
        return (
            f"The groups differ significantly (p {format_p_value(subgroups.p_value)}): {subgroups.metric} ranges from "
            f"{ends}. This does not show why: their images may be harder or rarer in training, or the column itself "
            "may matter."
        )
    return (
        f"The differences between the groups may be chance (p {format_p_value(subgroups.p_value)}): "
        f"{subgroups.metric} ranges from {ends}. This does not show that they are equal: small groups can hide a "
        "difference."
    )


def group_name(value: str) -> str:
    return value or "(empty)"


def format_p_value(p_value: float) -> str:
    """Return a p-value such as "= 0.034" or "< 0.0001"."""
    return f"= {p_value:.2g}" if p_value >= 1e-4 else "< 0.0001"
