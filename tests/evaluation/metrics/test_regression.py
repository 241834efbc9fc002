"""Metrics of scores: the libraries' figures, sound intervals, and what knows nothing beside them."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from megavit.errors import DataError
from megavit.evaluation.metrics.regression import _weighted_correlation, _WeightedRanks, compute_regression_metrics


def answers(images: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    truth = (torch.randn(images, generator=random) * 20).round()  # with ties
    return truth + 5 * torch.randn(images, generator=random), truth


@pytest.mark.parametrize("seed", range(3))
def test_the_figures_are_those_of_the_libraries(seed):
    said, truth = answers(60, seed)
    found = compute_regression_metrics(said, truth, mean=1.0, median=2.0)
    assert found.r2 and found.spearman
    assert found.mae.value == pytest.approx(mean_absolute_error(truth, said), rel=1e-5)
    assert found.rmse.value == pytest.approx(root_mean_squared_error(truth, said), rel=1e-5)
    assert found.r2.value == pytest.approx(r2_score(truth, said), rel=1e-5)
    assert found.spearman.value == pytest.approx(spearmanr(truth, said).statistic)
    assert found.baseline_mae == pytest.approx(mean_absolute_error(truth, np.full(60, 2.0)), rel=1e-5)
    assert found.baseline_rmse == pytest.approx(root_mean_squared_error(truth, np.full(60, 1.0)), rel=1e-5)
    assert (found.min_target, found.max_target) == (truth.min(), truth.max())
    for interval in (found.mae, found.rmse, found.r2, found.spearman):
        assert interval.low < interval.value < interval.high


def test_where_the_training_images_are_not_known_these_images_are_the_baseline():
    said, truth = answers(60)
    found = compute_regression_metrics(said, truth)
    assert not found.baseline_from_training
    assert found.median == pytest.approx(np.median(truth))
    assert found.baseline_rmse == pytest.approx(truth.double().std(correction=0).item(), rel=1e-5)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=30))
def test_ranks_of_a_resample_are_those_of_the_images_drawn(rows):
    one, other, drawn = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    repeated = [np.repeat(values, drawn.astype(int)) for values in (one, other)]
    if any(len(set(values)) < 2 for values in repeated):
        return
    weights = drawn[None]
    found = _weighted_correlation(_WeightedRanks(one).ranks(weights), _WeightedRanks(other).ranks(weights), weights)
    assert found[0] == pytest.approx(spearmanr(*repeated).statistic)


def test_large_numbers_do_not_spoil_the_share_explained():
    said, truth = answers(60)
    near = compute_regression_metrics(said, truth, mean=0, median=0)
    far = compute_regression_metrics(said.double() + 1e7, truth.double() + 1e7, mean=0, median=0)
    assert near.r2 and far.r2 and far.r2.value == pytest.approx(near.r2.value, rel=1e-6)


def test_of_equal_scores_or_answers_there_is_no_share_and_no_order():
    said, truth = answers(20)
    equal = compute_regression_metrics(said, torch.full((20,), 3.0), mean=3.0, median=3.0)
    assert equal.r2 is None and equal.spearman is None and equal.baseline_mae == 0
    constant = compute_regression_metrics(torch.full((20,), 3.0), truth, mean=0.0, median=0.0)
    assert constant.spearman is None and constant.r2 and constant.r2.value <= 0
    single = compute_regression_metrics(said[:1], truth[:1], mean=0.0, median=0.0)
    assert single.r2 is None and single.mae.low == single.mae.value == single.mae.high


def test_metrics_are_plain_json():
    stored = compute_regression_metrics(*answers(30), mean=0.5, median=0.25).to_dict()
    assert json.loads(json.dumps(stored)) == stored


def test_what_cannot_be_measured_is_refused():
    said, truth = answers(4)
    with pytest.raises(DataError, match="at least one image"):
        compute_regression_metrics(said[:0], truth[:0], mean=0, median=0)
    with pytest.raises(ValueError, match="finite"):
        compute_regression_metrics(said * torch.nan, truth, mean=0, median=0)
    with pytest.raises(ValueError, match="must have the same shape"):
        compute_regression_metrics(said[:, None], truth, mean=0, median=0)
