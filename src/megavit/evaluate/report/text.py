"""What comparisons and groups come to, in a sentence each: as much as the figures say, and no more."""

from megavit.evaluate.compare import Comparison, MetricDifference
from megavit.evaluate.metrics.bootstrap import Interval
from megavit.evaluate.metrics.dispatch import METRIC_NAMES
from megavit.evaluate.subgroups import Subgroups


def is_share(metric: str) -> bool:
    """Whether the metric is a share in [0, 1], told in per cent, rather than a number in the scores' unit."""
    return metric != METRIC_NAMES["regression"]


def format_value(metric: str, value: float) -> str:
    """ "93.4%", or a number of four digits."""
    return f"{value:.1%}" if is_share(metric) else f"{value:.4g}"


def format_interval(metric: str, interval: Interval | None) -> str:
    """ "93.4% (95%: 92.8% to 93.9%)"; a dash for None."""
    if interval is None:
        return "–"
    value, low, high = (format_value(metric, one) for one in (interval.value, interval.low, interval.high))
    return f"{value} (95%: {low} to {high})"


def format_difference(one: MetricDifference) -> str:
    """ "+1.25 points (95%: +0.50 to +2.00)", or the same in the scores' unit."""
    shares = is_share(one.metric)
    value, low, high = (
        f"{end * 100:+.2f}" if shares else f"{end:+.4g}" for end in (one.change.value, one.change.low, one.change.high)
    )
    return f"{value}{' points' if shares else ''} (95%: {low} to {high})"


def describe_comparison(found: Comparison) -> str:
    """Whether one model is better by more than chance."""
    first = found.differences[0]
    tested = f"; McNemar's exact test: p {format_p_value(found.p)}" if found.p is not None and _by_right(found) else ""
    if found.better == "neither":
        return (
            f"On these {found.images:,} images neither is better in {first.metric} by more than chance{tested}. "
            "That does not show them equal: the interval says how far apart they may be."
        )
    return f"{found.better} is better in {first.metric} by more than chance on these {found.images:,} images{tested}."


def describe_subgroups(found: Subgroups) -> str:
    """Whether the groups differ by more than chance."""
    known = [group for group in found.groups if group.metric is not None]
    if len(known) < 2:
        return "Too few groups have a label for them to be told apart."
    worst, best = known[0], known[-1]
    ends = " and ".join(
        f"{format_value(found.metric, group.metric.value)} in {group_name(group.value)}"
        for group in (worst, best)
        if group.metric is not None
    )
    if found.differ:
        return (
            f"The groups differ by more than chance (p {format_p_value(found.p)}): {found.metric} is between {ends}. "
            "Why, this does not say: harder images, fewer or other images to learn from, or the column itself."
        )
    return (
        f"Chance alone may explain how far the groups lie apart (p {format_p_value(found.p)}): {found.metric} is "
        f"between {ends}. That does not show them equal: small groups hide a difference."
    )


def group_name(value: str) -> str:
    """Of a group."""
    return value or "(empty)"


def format_p_value(p: float) -> str:
    """ "= 0.034", or "< 0.0001"."""
    return f"= {p:.2g}" if p >= 1e-4 else "< 0.0001"


def _by_right(found: Comparison) -> bool:
    return found.differences[0].metric == METRIC_NAMES["classification"]
