import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.config.calibration import Calibration
from megavit.config.target import Target
from megavit.evaluation.metrics.calibration import MAX_BINS, MIN_BIN_SIZE, compute_reliability, fit_temperature
from megavit.model.outputs.logits import logits_to_outputs


def logits(images: int, outputs: int = 5, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(images, outputs, generator=torch.Generator().manual_seed(seed))


def true_classes(scores: torch.Tensor, seed: int = 1) -> torch.Tensor:
    """Drawn by the probabilities that the scores stand for."""
    return scores.softmax(dim=1).multinomial(1, generator=torch.Generator().manual_seed(seed))[:, 0]


def true_labels(scores: torch.Tensor, seed: int = 1) -> torch.Tensor:
    return torch.rand(scores.shape, generator=torch.Generator().manual_seed(seed)) < scores.sigmoid()


@pytest.mark.parametrize("factor", [0.25, 1.0, 5.0])
def test_the_temperature_undoes_what_logits_were_multiplied_by(factor):
    scores = logits(20_000)
    temperature, smoothing = fit_temperature(factor * scores, true_classes(scores), "classification")
    assert temperature == pytest.approx(factor, rel=0.05) and smoothing < 0.02
    temperature, smoothing = fit_temperature(factor * scores, true_labels(scores), "multilabel")
    assert temperature == pytest.approx(factor, rel=0.05) and smoothing == 0


def test_what_label_smoothing_has_spread_is_found():
    scores = logits(20_000)
    smoothed = 0.9 * scores.softmax(dim=1) + 0.1 / 5
    temperature, smoothing = fit_temperature(smoothed.log(), true_classes(scores), "classification")
    assert temperature == pytest.approx(1, rel=0.05) and smoothing == pytest.approx(0.1, abs=0.02)
    trust = Calibration(temperature=temperature, smoothing=smoothing)
    torch.testing.assert_close(
        logits_to_outputs(smoothed.log(), Target(), trust), scores.softmax(dim=1), atol=0.02, rtol=0
    )


@pytest.mark.parametrize("factor", [0.4, 2.7])
def test_logits_that_a_temperature_alone_sets_right_get_no_smoothing(factor):
    scores = logits(400)
    temperature, smoothing = fit_temperature(factor * scores, true_classes(scores), "classification")
    assert smoothing == 0
    assert temperature == pytest.approx(factor, rel=0.2)
    smoothed = (0.8 * scores.softmax(dim=1) + 0.2 / 5).log()
    assert fit_temperature(smoothed, true_classes(scores), "classification", temperature_only=True)[1] == 0


def test_answers_that_are_all_right_have_a_finite_temperature():
    scores = logits(50)
    temperature, smoothing = fit_temperature(scores, scores.argmax(dim=1), "classification")
    assert 0 < temperature < 1 and 0 <= smoothing < 1
    # Nobody knows that it is never wrong: of fifty images, one might have been.
    answers = logits_to_outputs(scores, Target(), Calibration(temperature=temperature, smoothing=smoothing))
    assert 0.9 < answers.amax(dim=1).mean() < 0.995


def test_true_probabilities_have_little_error_and_exaggerated_ones_much():
    scores = logits(6_000)
    for targets, kind, squash in (
        (true_classes(scores), "classification", lambda x: x.softmax(dim=1)),
        (true_labels(scores), "multilabel", torch.sigmoid),
    ):
        true, exaggerated = (compute_reliability(squash(factor * scores), targets, kind) for factor in (1, 5))
        assert true.ece.high < 0.04 < 0.05 < exaggerated.ece.low


def test_the_error_is_what_the_bins_say():
    scores = logits(3000)
    found = compute_reliability(scores.softmax(dim=1), true_classes(scores), "classification")
    assert len(found.bins) == MAX_BINS and sum(one.count for one in found.bins) == 3000
    error = sum(one.count / 3000 * abs(one.confidence - one.accuracy.value) for one in found.bins)
    assert found.ece.value == pytest.approx(error, abs=1e-9)
    assert [one.confidence for one in found.bins] == sorted(one.confidence for one in found.bins)


@given(
    images=st.integers(1, 200),
    outputs=st.integers(1, 6),
    seed=st.integers(0, 99),
    kind=st.sampled_from(["classification", "multilabel"]),
)
def test_any_number_of_images_has_an_error_between_0_and_1(images, outputs, seed, kind):
    scores = logits(images, outputs, seed).round()  # with equal ones among them
    targets = true_classes(scores) if kind == "classification" else true_labels(scores)
    answers = images if kind == "classification" else images * outputs
    found = compute_reliability(scores.softmax(dim=1) if kind == "classification" else scores.sigmoid(), targets, kind)
    assert 0 <= found.ece.low <= found.ece.value <= found.ece.high <= 1 + 1e-9
    assert sum(one.count for one in found.bins) == answers
    assert 1 <= len(found.bins) <= max(1, min(MAX_BINS, answers // MIN_BIN_SIZE))
    assert all(0 <= one.confidence <= 1 and not math.isnan(one.accuracy.value) for one in found.bins)
