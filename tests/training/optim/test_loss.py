"""Losses: by hand, by kind, and that the remedies for imbalance do what they say."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from megavit.config.target import Target
from megavit.training.optim.loss import (
    MAX_POSITIVE_WEIGHT,
    BinaryCrossEntropy,
    CrossEntropy,
    SmoothL1,
    init_head_bias,
    make_loss,
    soft_targets,
)

CLASSES = torch.tensor([0, 0, 0, 1])
LABELS = torch.tensor([[True, False], [True, False], [True, True], [False, False]])


def test_soft_targets_are_rows_of_floats_whatever_the_kind():
    assert torch.equal(soft_targets(CLASSES, 2), F.one_hot(CLASSES, 2).float())
    assert torch.equal(soft_targets(LABELS, 2), LABELS.float())
    assert torch.equal(soft_targets(torch.tensor([1.5, -2.0]), 1), torch.tensor([[1.5], [-2.0]]))


def test_of_classes_the_loss_is_cross_entropy():
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    loss = make_loss(Target(), CLASSES, 2, balance="none", label_smoothing=0.0)
    torch.testing.assert_close(loss(logits, soft_targets(CLASSES, 2)), F.cross_entropy(logits, CLASSES))


def test_weights_make_every_class_count_the_same():
    loss = make_loss(Target(), CLASSES, 2, balance="loss", label_smoothing=0.0)
    assert isinstance(loss, CrossEntropy) and loss.weights is not None
    counted = torch.bincount(CLASSES) * loss.weights
    assert counted[0] == counted[1] and counted.sum() == len(CLASSES)


def test_adjusted_logits_are_best_when_the_model_answers_as_for_equal_classes():
    """The classes' shares are in the loss, so that logits which tell nothing are the best without evidence."""
    loss = make_loss(Target(), CLASSES, 2, balance="logits", label_smoothing=0.0)
    logits = torch.zeros(4, 2, requires_grad=True)
    loss(logits, soft_targets(CLASSES, 2)).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad.sum(dim=0), torch.zeros(2))


def test_a_class_without_images_has_a_finite_loss():
    for balance in ("loss", "logits"):
        loss = make_loss(Target(), CLASSES, 3, balance=balance, label_smoothing=0.1)
        assert loss(torch.zeros(4, 3), soft_targets(CLASSES, 3)).isfinite()


def test_of_labels_rare_ones_weigh_more_up_to_a_cap():
    target = Target(kind="multilabel")
    assert make_loss(target, LABELS, 2, balance="none", label_smoothing=0.0) == BinaryCrossEntropy()
    rare = torch.zeros(1000, 3, dtype=torch.bool)
    rare[:10, 0], rare[:900, 1] = True, True
    loss = make_loss(target, rare, 3, balance="loss", label_smoothing=0.0)
    assert isinstance(loss, BinaryCrossEntropy) and loss.pos_weight is not None
    assert loss.pos_weight.tolist() == [MAX_POSITIVE_WEIGHT, 1.0, MAX_POSITIVE_WEIGHT]


def test_a_score_is_compared_in_units_of_its_deviation():
    loss = make_loss(
        Target(kind="regression", mean=100.0, std=10.0),
        torch.tensor([90.0, 110.0]),
        1,
        balance="none",
        label_smoothing=0.0,
    )
    assert loss == SmoothL1(100.0, 10.0)
    assert loss(torch.tensor([[1.0], [-1.0]]), torch.tensor([[110.0], [90.0]])) == 0
    assert loss(torch.tensor([[0.0]]), torch.tensor([[130.0]])) == pytest.approx(2.5)


def test_a_head_that_starts_at_the_shares_answers_with_them():
    head = nn.Linear(3, 2)
    init_head_bias(head, LABELS)
    torch.testing.assert_close(head.bias.sigmoid(), torch.tensor([4 / 6, 2 / 6]))
    init_head_bias(head, torch.zeros(4, 2, dtype=torch.bool))
    assert head.bias.isfinite().all()
