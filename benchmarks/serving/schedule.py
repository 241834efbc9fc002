"""When requests are sent, and what the times of their answers come to."""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

import numpy as np


class Reply(NamedTuple):
    """What became of a request; times in seconds of one clock.

    Attributes:
        status: of HTTP, or 0 where the connection ended without an answer.
        due: when it was to be sent.
        sent: when it was sent, later than `due` where the sender was busy or had to connect first.
        done: when its answer had come, or the connection ended.
        body: of the answer.
    """

    status: int
    due: float
    sent: float
    done: float
    body: bytes = b""


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Times of independent arrivals at `rate` a second, from 0 to `seconds`."""
    random = np.random.default_rng(seed)
    gaps = random.exponential(1 / rate, math.ceil(rate * seconds * 1.5) + 50)
    return [time for time in np.cumsum(gaps).tolist() if time < seconds]


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that `share` of all do not exceed; NaN of none.

    Args:
        share: in (0, 1].
    """
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def milliseconds(seconds: float) -> float | None:
    """Rounded for a result; None where there was nothing to measure."""
    return None if math.isnan(seconds) else round(seconds * 1000, 2)


def summary(replies: Sequence[Reply], seconds: float) -> dict[str, Any]:
    """Answers a second, and how long they took from when they were due, for requests due within `seconds`."""
    good = [reply.done - reply.due for reply in replies if reply.status == 200]
    return {
        "requests_per_second": round(len(good) / seconds, 2),
        "p50_ms": milliseconds(percentile(good, 0.5)),
        "p99_ms": milliseconds(percentile(good, 0.99)),
        "statuses": statuses(replies),
    }


def statuses(replies: Sequence[Reply]) -> dict[str, int]:
    """How often each came, "none" for a connection that ended without an answer."""
    return {str(status or "none"): count for status, count in sorted(Counter(r.status for r in replies).items())}


def overload(replies: Sequence[Reply], seconds: float, capacity: float, queue: int) -> dict[str, Any]:
    """Of an open loop above capacity: what was answered, what was refused, and how soon.

    Args:
        seconds: how long requests were due.
        capacity: answers a second, measured without overload.
        queue: requests that may wait; an answer that is given should come within queue / capacity, and 30% more.
    """
    bound = 1.3 * queue / capacity
    accepted = [reply for reply in replies if reply.status == 200]
    seconds_each = [reply.done - reply.due for reply in accepted]
    refused = [reply.done - reply.sent for reply in replies if reply.status == 429]
    last = max((reply.done for reply in accepted), default=0.0) - min((reply.due for reply in replies), default=0.0)
    return {
        "offered_per_second": round(len(replies) / seconds, 2),
        "statuses": statuses(replies),
        "goodput_share_of_capacity": round(len(accepted) / max(last, seconds) / capacity, 3),
        "in_time_share_of_capacity": round(
            sum(time <= bound for time in seconds_each) / max(last, seconds) / capacity, 3
        ),
        "bound_ms": milliseconds(bound),
        "accepted_p50_ms": milliseconds(percentile(seconds_each, 0.5)),
        "accepted_p99_ms": milliseconds(percentile(seconds_each, 0.99)),
        "refused_p50_ms": milliseconds(percentile(refused, 0.5)),
        "refused_p99_ms": milliseconds(percentile(refused, 0.99)),
        "sender_late_p99_ms": milliseconds(percentile([reply.sent - reply.due for reply in replies], 0.99)),
    }


def medians(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Each figure's median over the rounds; counts are summed."""
    found: dict[str, Any] = {}
    for name in rounds[0]:
        values = [result[name] for result in rounds if result[name] is not None]
        if name == "statuses":
            total: Counter[str] = Counter()
            for result in values:
                total.update(result)
            found[name] = dict(total)
        else:
            found[name] = round(median(values), 3) if values else None
    return found


def ratio(ours: Sequence[float], others: Sequence[float]) -> float:
    """The median of each round's ratio."""
    return round(median(a / b for a, b in zip(ours, others, strict=True)), 3)
