"""Predicted labels are right as often as they say, and foreign images get none."""

import torch

from megavit.evaluation.probes.cross_validation import make_folds
from megavit.training.finetune.pseudo_labels.labeler import PredictedLabels, PseudoLabeler
from tests.training.finetune.pseudo_labels.conftest import Embedded, make_embedded


def make_labeler(data: Embedded) -> PseudoLabeler:
    return PseudoLabeler(data.frozen, data.unlabeled, 0.03, make_folds(data.frozen.labels))


def label(data: Embedded) -> PredictedLabels:
    return make_labeler(data).predict(data.frozen.split.train)


def test_used_labels_are_right_and_foreign_images_are_marked(embedded: Embedded) -> None:
    found, is_own = label(embedded), embedded.classes >= 0
    is_used, is_right = found.are_used(0.5), found.classes == embedded.classes
    assert found.is_outlier[~is_own].all() and not is_used[~is_own].any()
    assert is_used[is_own].double().mean() > 0.5
    assert is_right[is_used].double().mean() > 0.8
    assert not (found.are_used(0.9) & ~is_used).any() and found.are_used(0.9).sum() < is_used.sum()


def test_what_is_hard_to_tell_apart_is_less_certain(embedded: Embedded) -> None:
    data = make_embedded(1.0)
    hard, easy, is_own = label(data), label(embedded), data.classes >= 0
    assert hard.probabilities[is_own].mean() < easy.probabilities[is_own].mean() - 0.1
    is_right = hard.classes[is_own] == data.classes[is_own]
    assert hard.probabilities[is_own].mean() < is_right.double().mean() + 0.25


def test_each_fold_is_predicted_without_its_own_labels(embedded: Embedded) -> None:
    labeler, first = make_labeler(embedded), make_folds(embedded.frozen.labels)[0]
    again = labeler.predict(first.train)
    assert torch.equal(again.classes, labeler.labels[0].classes)
    assert torch.equal(again.probabilities, labeler.labels[0].probabilities)
