"""By what the best epoch is chosen."""

from dataclasses import replace

import pytest
import torch
from sklearn.metrics import average_precision_score, r2_score

from megavit.config.recipe import DataRecipe
from megavit.config.target import Target
from megavit.training.loop.validation import compute_metric
from tests.helpers.training import make_task

RANDOM = torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("kind", "balance", "metric"),
    [
        ("classification", "none", "accuracy"),
        ("classification", "logits", "balanced accuracy"),
        ("multilabel", "none", "mean average precision"),
        ("regression", "none", "R²"),
    ],
)
def test_each_target_has_its_metric(kind, balance, metric):
    task = make_task()
    recipe = replace(task.recipe, data=DataRecipe(balance=balance))
    assert replace(task, recipe=recipe, target=Target(kind=kind)).metric == metric


def test_balanced_accuracy_is_the_mean_of_the_classes_that_occur():
    labels = torch.tensor([0] * 8 + [2] * 2)
    answers = torch.tensor([0] * 6 + [3] * 2 + [2, 0])
    logits = torch.nn.functional.one_hot(answers, 4).float()
    assert compute_metric("balanced accuracy", logits, labels, Target()) == pytest.approx((6 / 8 + 1 / 2) / 2)
    assert compute_metric("accuracy", logits, labels, Target()) == pytest.approx(7 / 10)


def test_mean_average_precision_leaves_out_labels_without_images():
    logits, present = torch.randn(50, 3, generator=RANDOM), torch.rand(50, 3, generator=RANDOM) < 0.3
    present[:, 1] = False
    found = compute_metric("mean average precision", logits, present, Target(kind="multilabel"))
    expected = [average_precision_score(present[:, k], logits[:, k]) for k in (0, 2)]
    assert found == pytest.approx(sum(expected) / 2)
    assert compute_metric("mean average precision", logits, torch.zeros_like(present), Target(kind="multilabel")) == 0


def test_r2_is_of_the_scores_in_their_unit_and_ranks_epochs_even_of_equal_scores():
    target, scores = Target(kind="regression", mean=5.0, std=2.0), torch.tensor([1.0, 4.0, 9.0])
    logits = torch.tensor([[-2.0], [0.0], [1.5]])
    assert compute_metric("R²", logits, scores, target) == pytest.approx(r2_score(scores, logits[:, 0] * 2 + 5))
    equal = torch.full((3,), 5.0)
    near, far = (compute_metric("R²", torch.full((3, 1), off), equal, target) for off in (0.1, 0.5))
    assert 1 > near > far
