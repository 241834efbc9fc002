import json
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)

from megavit.errors import DataError
from megavit.evaluation.metrics.classification import (
    compute_classification_metrics,
    list_confusions,
)


def answers(images, classes, seed=0, strength=2.0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (images,), generator=generator)
    logits = torch.randn(images, classes, generator=generator)
    logits[torch.arange(images), labels] += strength
    return logits.softmax(dim=1), labels


def names(count):
    return [f"class {index}" for index in range(count)]


def certain(predicted, classes):
    return torch.nn.functional.one_hot(torch.tensor(predicted), classes).float()


@given(st.integers(1, 60), st.integers(2, 9), st.integers(0, 1000))
def test_every_figure_is_scikit_learns(images, classes, seed):
    probabilities, labels = answers(images, classes, seed)
    metrics = compute_classification_metrics(probabilities, labels, names(classes))
    truth: Any = labels.numpy()
    answer: Any = probabilities.argmax(dim=1).numpy()
    shares: Any = probabilities.numpy()
    every = list(range(classes))
    nan: Any = np.nan
    assert metrics.images == images
    assert metrics.accuracy.value == pytest.approx(accuracy_score(truth, answer))
    assert metrics.confusion == tuple(map(tuple, confusion_matrix(truth, answer, labels=every).tolist()))
    assert metrics.macro_f1.value == pytest.approx(f1_score(truth, answer, average="macro", zero_division=0))
    assert metrics.loss == pytest.approx(log_loss(truth, shares, labels=every), rel=1e-4)
    recalls = [one.recall.value for one in metrics.per_class if one.recall]
    assert metrics.balanced_accuracy.value == pytest.approx(np.mean(recalls))
    figures: Any = precision_recall_fscore_support(truth, answer, labels=every, zero_division=nan)
    for one, *theirs in zip(metrics.per_class, *figures, strict=True):
        ours = (one.precision, one.recall and one.recall.value, one.f1, one.images)
        assert [np.nan if value is None else value for value in ours] == pytest.approx(theirs, nan_ok=True)


def test_balanced_accuracy_and_top5_are_scikit_learns():
    probabilities, labels = answers(500, 12)
    metrics = compute_classification_metrics(probabilities, labels, names(12))
    truth: Any = labels.numpy()
    shares: Any = probabilities.numpy()
    assert metrics.balanced_accuracy.value == pytest.approx(balanced_accuracy_score(truth, shares.argmax(axis=1)))
    assert metrics.top5 is not None
    assert metrics.top5.value == pytest.approx(top_k_accuracy_score(truth, shares, k=5))


def test_top5_says_nothing_of_five_classes():
    assert compute_classification_metrics(*answers(20, 5), names(5)).top5 is None
    assert compute_classification_metrics(*answers(20, 6), names(6)).top5 is not None


def test_equally_likely_classes_are_not_luck():
    labels = torch.arange(8)
    metrics = compute_classification_metrics(torch.full((8, 8), 1 / 8), labels, names(8))
    assert metrics.accuracy.value == 1 / 8
    assert metrics.top5 is not None
    assert metrics.top5.value == 5 / 8


@pytest.mark.parametrize(
    ("figure", "score"),
    [("balanced_accuracy", balanced_accuracy_score), ("macro_f1", partial(f1_score, average="macro"))],
)
def test_bootstrap_intervals_agree_with_resampling_the_images(figure, score):
    probabilities, labels = answers(300, 3, strength=1.5)
    truth, answer = labels.numpy(), probabilities.argmax(dim=1).numpy()
    random = np.random.default_rng(0)
    draws = (random.integers(300, size=300) for _ in range(400))
    ends = np.quantile([float(score(truth[draw], answer[draw])) for draw in draws], [0.025, 0.975])
    interval = getattr(compute_classification_metrics(probabilities, labels, names(3)), figure)
    assert (interval.low, interval.high) == pytest.approx(tuple(ends), abs=0.02)


def test_a_class_without_images_or_answers_gives_none_and_leaves_the_means_alone():
    metrics = compute_classification_metrics(certain([0, 0, 1, 3], 5), torch.tensor([0, 0, 0, 4]), names(5))
    never_seen_but_named, never_at_all, never_named = metrics.per_class[1], metrics.per_class[2], metrics.per_class[4]
    assert (never_seen_but_named.precision, never_seen_but_named.recall, never_seen_but_named.f1) == (0, None, 0)
    assert (never_at_all.precision, never_at_all.recall, never_at_all.f1) == (None, None, None)
    assert never_named.recall is not None
    assert (never_named.precision, never_named.recall.value, never_named.f1) == (None, 0, 0)
    assert metrics.balanced_accuracy.value == pytest.approx((2 / 3 + 0) / 2)
    assert metrics.macro_f1.value == pytest.approx((0.8 + 0 + 0 + 0) / 4)


def test_a_certain_mistake_has_a_finite_loss():
    metrics = compute_classification_metrics(certain([0], 2), torch.tensor([1]), names(2))
    assert metrics.loss == pytest.approx(-np.log(1.17549435e-38), rel=1e-6)


def test_half_precision_and_gradients_are_accepted():
    probabilities, labels = answers(50, 4)
    exact = compute_classification_metrics(probabilities, labels, names(4))
    assert compute_classification_metrics(probabilities.requires_grad_(), labels.to(torch.uint8), names(4)) == exact
    # Powers of two, which bfloat16 holds exactly.
    coarse = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]])
    assert compute_classification_metrics(
        coarse.bfloat16(), torch.tensor([0, 1]), names(3)
    ) == compute_classification_metrics(coarse, torch.tensor([0, 1]), names(3))


def test_json_holds_only_plain_types_and_the_cells_that_count():
    stored = compute_classification_metrics(certain([0, 1, 1], 3), torch.tensor([0, 0, 1]), names(3)).to_dict()
    assert json.loads(json.dumps(stored)) == stored
    assert stored["confusion"] == [[0, 0, 1], [0, 1, 1], [1, 1, 1]]
    assert stored["per_class"][2] == {"name": "class 2", "images": 0, "precision": None, "recall": None, "f1": None}


def test_worst_confusions_come_commonest_first_then_in_the_classes_order():
    metrics = compute_classification_metrics(
        certain([1, 1, 0, 2, 2, 0], 3), torch.tensor([0, 0, 1, 2, 1, 2]), ["ant", "bee", "cow"]
    )
    assert list_confusions(metrics, 3) == [("ant", "bee", 2), ("bee", "ant", 1), ("bee", "cow", 1)]
    assert len(list_confusions(metrics, 99)) == 4
    assert list_confusions(compute_classification_metrics(certain([0, 1], 2), torch.tensor([0, 1]), names(2)), 5) == []


def test_no_images_is_an_error_of_the_data():
    with pytest.raises(DataError, match="at least one image"):
        compute_classification_metrics(torch.empty(0, 3), torch.empty(0, dtype=torch.int64), names(3))


FINE = torch.tensor([[0.5, 0.5], [1.0, 0.0]])


@pytest.mark.parametrize(
    ("probabilities", "labels", "named"),
    [
        (FINE[:, :1], [0, 1], "shape"),
        (FINE[0], [0, 1], "shape"),
        (FINE.long(), [0, 1], "floating"),
        (FINE, [0], "labels must be integers"),
        (FINE, [0.0, 1.0], "labels must be integers"),
        (FINE, [True, False], "labels must be integers"),
        (FINE, [0, 2], r"\[0, 2\)"),
        (FINE, [-1, 1], r"\[0, 2\)"),
        (FINE * torch.nan, [0, 1], "finite"),
        (FINE * torch.inf, [0, 1], "finite"),
        (FINE * 3 - 1, [0, 1], "not logits"),
        (FINE * 0.99, [0, 1], "differs by 0.01"),
    ],
)
def test_answers_of_another_kind_are_refused(probabilities, labels, named):
    with pytest.raises(ValueError, match=named):
        compute_classification_metrics(probabilities, torch.tensor(labels), names(2))


def test_rows_may_be_off_by_a_rounding():
    assert compute_classification_metrics(FINE * 0.9995, torch.tensor([0, 0]), names(2)).accuracy.value == 1


def test_the_same_answers_give_the_same_intervals():
    assert compute_classification_metrics(*answers(99, 7), names(7)) == compute_classification_metrics(
        *answers(99, 7), names(7)
    )
