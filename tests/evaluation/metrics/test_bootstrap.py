import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap

from megavit.evaluation.metrics.bootstrap import bootstrap_counts, bootstrap_images, wilson_interval


def share_of_first(counts):
    return counts[:, 0] / counts.sum(axis=1)


def test_wilson_is_the_published_formula():
    interval = wilson_interval(355, 360)
    z, share = 1.959963984540054, 355 / 360
    center = (share + z**2 / 720) / (1 + z**2 / 360)
    half = z / (1 + z**2 / 360) * (share * (1 - share) / 360 + z**2 / (4 * 360**2)) ** 0.5
    assert interval.value == share
    assert (interval.low, interval.high) == pytest.approx((center - half, center + half), abs=1e-12)


@given(st.integers(1, 10_000).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
def test_wilson_holds_the_value_and_has_a_width_even_when_all_are_right_or_wrong(case):
    interval = wilson_interval(*case)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.high - interval.low > 0


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 4)])
def test_wilson_refuses_counts_that_cannot_be(successes, trials):
    with pytest.raises(ValueError, match="successes <= trials"):
        wilson_interval(successes, trials)


def test_both_bootstraps_agree_with_that_of_scipy():
    values = np.repeat([1.0, 0.0], [80, 20])
    expected = bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    (by_image,) = bootstrap_images(lambda drawn: drawn @ values[:, None] / len(values), len(values))
    for interval in (bootstrap_counts(share_of_first, np.array([80, 20])), by_image):
        assert interval is not None and interval.value == pytest.approx(0.8)
        assert (interval.low, interval.high) == pytest.approx(tuple(expected), abs=0.015)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    counts = np.array([700, 300])
    assert bootstrap_counts(share_of_first, counts, seed=3) == bootstrap_counts(share_of_first, counts, seed=3)
    assert bootstrap_counts(share_of_first, counts, seed=3) != bootstrap_counts(share_of_first, counts, seed=4)


def test_the_result_does_not_depend_on_how_many_resamples_are_drawn_at_once(monkeypatch):
    counts = np.array([70, 20, 10])
    whole = bootstrap_counts(share_of_first, counts)
    monkeypatch.setattr("megavit.evaluation.metrics.bootstrap._CHUNK_ELEMENTS", 7)
    assert bootstrap_counts(share_of_first, counts) == whole


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6))
def test_bootstrap_holds_the_value(cells):
    # The smallest share is biased downwards on resamples, so this would fail without the widening.
    interval = bootstrap_counts(lambda counts: counts.min(axis=1) / counts.sum(axis=1), np.array(cells))
    assert interval.low <= interval.value <= interval.high
