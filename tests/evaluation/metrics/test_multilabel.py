"""Metrics of labels: scikit-learn's figures, sound intervals, thresholds that hold."""

import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, log_loss

from megavit.errors import DataError
from megavit.evaluation.metrics.multilabel import (
    MIN_POSITIVES,
    compute_multilabel_metrics,
    fit_thresholds,
)

NAMES = ("ant", "bee", "cow")
HALF = [0.5, 0.5, 0.5]


def answers(images: int, seed: int = 0, strength: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    present = torch.rand(images, 3, generator=random) < torch.tensor([0.5, 0.2, 0.1])
    logits = torch.randn(images, 3, generator=random) + strength * (2 * present - 1)
    return logits.sigmoid(), present


@pytest.mark.parametrize("seed", range(3))
def test_the_figures_are_those_of_scikit_learn(seed):
    shares, present = answers(80, seed)
    shares = (shares * 20).round() / 20  # with ties
    shares = shares.clamp(0.01, 0.99)
    found = compute_multilabel_metrics(shares, present, NAMES, HALF)
    precisions = [average_precision_score(present[:, k], shares[:, k]) for k in range(3)]
    assert [one.average_precision and one.average_precision.value for one in found.per_label] == pytest.approx(
        precisions
    )
    assert found.mean_average_precision and found.macro_f1 and found.micro_f1
    assert found.mean_average_precision.value == pytest.approx(np.mean(precisions))
    given = (shares >= 0.5).numpy()
    assert found.macro_f1.value == pytest.approx(f1_score(present, given, average="macro"))
    assert found.micro_f1.value == pytest.approx(f1_score(present, given, average="micro"))
    assert found.exact_match.value == pytest.approx((given == present.numpy()).all(1).mean())
    losses = [log_loss(present[:, k], shares[:, k].double()) for k in range(3)]
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert found.chance_level == pytest.approx(present.float().mean().item())


def test_intervals_hold_their_value_and_shrink_with_more_images():
    few, many = (
        compute_multilabel_metrics(*answers(images), NAMES, HALF).mean_average_precision for images in (40, 1000)
    )
    assert few and many
    assert few.low < few.value < few.high and many.low < many.value < many.high
    assert many.high - many.low < 0.5 * (few.high - few.low)


def test_a_label_that_no_image_has_is_left_out_and_a_dash():
    shares, present = answers(40)
    present[:, 1] = False
    found = compute_multilabel_metrics(shares, present, NAMES, [0.5, 1.0, 0.5])
    bee = found.per_label[1]
    assert (bee.images, bee.average_precision, bee.precision, bee.recall, bee.f1) == (0, None, None, None, None)
    assert found.mean_average_precision is not None
    nothing = compute_multilabel_metrics(shares, torch.zeros_like(present), NAMES, [1.0, 1.0, 1.0])
    assert nothing.mean_average_precision is None and nothing.macro_f1 is None and nothing.exact_match.value == 1


def test_metrics_are_plain_json():
    stored = compute_multilabel_metrics(*answers(30), NAMES, HALF).to_dict()
    assert json.loads(json.dumps(stored)) == stored


def test_what_cannot_be_measured_is_refused():
    shares, present = answers(4)
    with pytest.raises(DataError, match="at least one image"):
        compute_multilabel_metrics(shares[:0], present[:0], NAMES, HALF)
    for wrong in (shares * 2, shares * torch.nan):
        with pytest.raises(ValueError, match="not logits"):
            compute_multilabel_metrics(wrong, present, NAMES, HALF)
    with pytest.raises(ValueError, match="same shape"):
        compute_multilabel_metrics(shares, present[:, :2], NAMES, HALF)


columns = st.lists(
    st.tuples(st.integers(0, 8).map(lambda eighths: eighths / 8), st.booleans()), min_size=1, max_size=40
)


@given(columns)
def test_no_other_threshold_has_a_higher_f1(column):
    shares = torch.tensor([[share] for share, _ in column])
    present = torch.tensor([[has] for _, has in column])
    (threshold,) = fit_thresholds(shares, present)
    assert 0 < threshold <= 1
    cases = int(present.sum())
    if cases < MIN_POSITIVES or cases == len(column):
        assert threshold == 0.5
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, *others = (
            f1_score(present[:, 0], shares[:, 0] >= cut) for cut in (threshold, *(eighth / 8 for eighth in range(1, 9)))
        )
    assert ours >= max(others) - 1e-12


def test_a_threshold_lies_half_way():
    shares = torch.tensor([[0.9], [0.8], [0.7], [0.6], [0.5], [0.1], [0.1]])
    present = torch.tensor([[True]] * 5 + [[False]] * 2)
    assert fit_thresholds(shares, present) == pytest.approx([0.3])
