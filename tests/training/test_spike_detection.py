import json
from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.training.spike_detection import MAX_OUTLIERS_IN_A_ROW, MIN_STEPS, PATIENCE, WINDOW, SpikeDetector

STEPS = 400


def noise(seed: int, spread: float, drift: float, count: int = STEPS) -> list[float]:
    """Values around a curve that goes down, or slowly up, with log-normal noise."""
    random = torch.Generator().manual_seed(seed)
    curve = torch.linspace(0, drift, count) + torch.randn(count, generator=random) * spread
    return curve.exp().tolist()


def fed(losses: list[float], norms: list[float]) -> SpikeDetector:
    spikes = SpikeDetector()
    for loss, norm in zip(losses, norms, strict=True):
        assert not spikes.update(loss, norm)
    return spikes


scales = st.floats(min_value=-8, max_value=8)


@given(
    seed=st.integers(0, 10**6),
    scale=scales,
    spread=st.floats(0, 0.6),
    drift=st.floats(-3, 0.4),
    noisy=st.floats(0, 0.3),
)
def test_noise_of_one_scale_that_drifts_is_never_a_spike(seed, scale, spread, drift, noisy):
    losses = [2.718**scale * value for value in noise(seed, noisy, drift)]
    norms = [2.718 ** (-scale) * value for value in noise(seed + 1, spread, -drift)]
    spikes = SpikeDetector()
    for loss, norm in zip(losses, norms, strict=True):
        assert not spikes.update(loss, norm)
        assert spikes.high_losses < PATIENCE


@given(seed=st.integers(0, 10**6), scale=scales, times=st.floats(3, 1e6))
def test_a_gradient_far_out_of_line_is_left_out_and_not_remembered(seed, scale, times):
    norms = [2.718**scale * value for value in noise(seed, 0.1, 0.0, WINDOW)]
    spikes = fed(noise(seed, 0.1, -1.0, WINDOW), norms)
    before = list(spikes.norms)
    assert spikes.update(1.0, max(norms) * 10 * times) and spikes.norms == before
    assert not spikes.update(1.0, max(norms)) and spikes.outliers == 0


@given(seed=st.integers(0, 10**6), begin=st.floats(2, 10), reached=st.floats(0.05, 0.4), lost=st.floats(0.8, 3))
def test_a_loss_that_stays_where_most_is_lost_has_diverged_after_so_many_steps(seed, begin, reached, lost):
    losses = [begin] * MIN_STEPS + [reached * begin * value for value in noise(seed, 0.02, 0.0, WINDOW)]
    spikes = fed(losses, noise(seed, 0.1, 0.0, len(losses)))
    for step in range(PATIENCE):
        assert not spikes.diverged and not spikes.update(lost * begin, 1.0)
        assert spikes.high_losses == step + 1
    assert spikes.diverged


def test_a_loss_that_comes_back_in_time_has_not_diverged():
    spikes = fed([2.3] * MIN_STEPS + [0.5] * WINDOW, [1.0] * (MIN_STEPS + WINDOW))
    for _ in range(PATIENCE - 1):
        spikes.update(2.3, 1.0)
    spikes.update(0.6, 1.0)
    assert spikes.high_losses == 0 and not spikes.diverged


def test_nothing_is_judged_before_enough_was_seen():
    spikes = fed([2.3] * (MIN_STEPS - 1), [1.0] * (MIN_STEPS - 1))
    assert not spikes.update(1e6, 1e6) and spikes.high_losses == 0


def test_images_of_another_kind_have_another_loss():
    spikes = fed([2.3] * MIN_STEPS + [0.1] * WINDOW, [0.01] * (MIN_STEPS + WINDOW))
    assert spikes.update(0.1, 5.0)
    for _ in range(2 * PATIENCE):
        assert not spikes.update(2.0, 5.0, [True])
    assert spikes.high_losses == 0


def test_gradients_that_stay_large_are_the_usual_size_after_a_few():
    spikes = fed([1.0] * WINDOW, [1.0] * WINDOW)
    left_out = [spikes.update(1.0, 100.0) for _ in range(WINDOW)]
    assert left_out == [True] * MAX_OUTLIERS_IN_A_ROW + [False] * (WINDOW - MAX_OUTLIERS_IN_A_ROW)
    assert not spikes.update(1.0, 100.0) and spikes.outliers == 0


@pytest.mark.parametrize("norm", [0.0, 1e-300])
def test_a_gradient_of_nothing_is_no_outlier_and_makes_none(norm):
    spikes = fed([1.0] * WINDOW, [norm] * WINDOW)
    assert not spikes.update(1.0, 0.0)
    assert SpikeDetector().update(1.0, norm) is False


def test_the_last_steps_survive_json():
    spikes = fed(noise(0, 0.1, -1.0), noise(1, 0.3, 0.0))
    assert SpikeDetector(**json.loads(json.dumps(asdict(spikes)))) == spikes
    assert len(spikes.losses) == len(spikes.norms) == WINDOW
