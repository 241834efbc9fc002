"""What the load generator computes: when to send, and what the times come to."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.serving.schedule import Reply, medians, overload, percentile, poisson, ratio, statuses, summary

pytestmark = pytest.mark.benchmarks


def replies(*taken: float, status: int = 200) -> list[Reply]:
    return [Reply(status, place, place + 0.1, place + one) for place, one in enumerate(taken)]


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_the_percentile_of_nothing_is_no_number() -> None:
    assert math.isnan(percentile([], 0.5))


@given(st.integers(0, 9), st.floats(1, 1000))
def test_arrivals_come_in_order_at_the_rate_asked_for(seed: int, rate: float) -> None:
    found = poisson(rate, 20, seed)
    assert found == sorted(found) == poisson(rate, 20, seed)
    assert not found or (found[0] > 0 and found[-1] < 20)
    assert len(found) == pytest.approx(20 * rate, abs=6 * math.sqrt(20 * rate) + 1)


def test_arrivals_are_independent() -> None:
    """The gaps of a Poisson process have their mean as standard deviation."""
    times = poisson(100, 200, 0)
    gaps = [b - a for a, b in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    assert math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) == pytest.approx(mean, rel=0.05)


def test_times_count_from_when_a_request_was_due() -> None:
    found = summary([*replies(0.2, 0.4, 0.6), *replies(9, status=429), *replies(9, status=0)], 2)
    assert found == {
        "requests_per_second": 1.5,
        "p50_ms": 400,
        "p99_ms": 600,
        "statuses": {"none": 1, "200": 3, "429": 1},
    }


def test_overload_tells_what_was_answered_in_time_and_how_soon_the_rest_was_refused() -> None:
    given_ = [Reply(200, 0, 0.5, 1.0), Reply(200, 0, 0.5, 2.0), Reply(200, 0, 0.5, 4.0)]
    found = overload([*given_, Reply(429, 1, 1.5, 1.51)], seconds=2, capacity=1, queue=2)
    assert found["bound_ms"] == 2600
    assert found["goodput_share_of_capacity"] == 0.75  # three in four seconds
    assert found["in_time_share_of_capacity"] == 0.5
    assert found["refused_p99_ms"] == pytest.approx(10)
    assert found["accepted_p99_ms"] == 4000


def test_overload_without_refusals_has_none_to_time() -> None:
    assert overload(replies(0.1), 1, 1, 1)["refused_p99_ms"] is None


def test_medians_are_of_each_figure_and_counts_are_summed() -> None:
    rounds = [
        {"a": 1.0, "statuses": {"200": 1}},
        {"a": 3.0, "statuses": {"200": 2, "429": 1}},
        {"a": None, "statuses": {}},
    ]
    assert medians(rounds) == {"a": 2.0, "statuses": {"200": 3, "429": 1}}


def test_a_ratio_is_taken_within_each_round() -> None:
    assert ratio([10, 1, 30], [5, 1, 10]) == 2


def test_no_answer_has_a_name() -> None:
    assert statuses([Reply(0, 0, 0, 0), Reply(200, 0, 0, 0)]) == {"none": 1, "200": 1}
