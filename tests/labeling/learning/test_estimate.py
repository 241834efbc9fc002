"""The estimate is that of new images, however the others were chosen."""

import hashlib
from typing import Any

import torch

from megavit.labeling.learning.estimate import Estimate, Estimator

CLASSES = ("cat", "dog", "bird")


def run(estimator: Estimator, *arguments: Any) -> Estimate:
    """Return the estimate, which comes last."""
    *steps, estimate = estimator.estimate(*arguments)
    assert steps == [None] * len(steps)
    assert estimate is not None
    return estimate


def make_problem(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor, list[bytes]]:
    random = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 3, (count,), generator=random)
    features = 2.5 * torch.eye(3, 16)[labels] + torch.randn(count, 16, generator=random)
    wrong = torch.rand(count, generator=random) < noise
    labels = torch.where(wrong, torch.randint(0, 3, (count,), generator=random), labels)
    digests = [hashlib.sha256(str(index).encode()).digest() for index in range(count)]
    return features, torch.nn.functional.one_hot(labels, 3).float(), digests


def test_labels_that_cannot_be_learned_are_not_said_to_be() -> None:
    features, targets, digests = make_problem(180, noise=1.0)
    estimator = Estimator("classification")
    for count in (90, 180):  # each fit goes on from the one before
        estimate = run(
            estimator, features[:count], targets[:count], torch.ones(count, dtype=torch.bool), digests[:count], CLASSES
        )
    assert estimate.accuracy is not None
    assert estimate.accuracy.low < 1 / 3 < estimate.accuracy.high


def test_it_counts_random_images_only_and_says_what_is_confused() -> None:
    features, targets, digests = make_problem(200, noise=0.0)
    random = torch.arange(200) < 60
    hard = targets.clone()
    hard[~random] = targets[~random].roll(1, dims=1)  # the others are all labeled otherwise
    estimate = run(Estimator("classification"), features, hard, random, digests, CLASSES)
    assert (estimate.images, estimate.labels) == (60, 200)
    assert estimate.accuracy is not None and estimate.accuracy.value < 0.4
    label, taken_for, count = estimate.confused[0]
    assert {label, taken_for} <= set(CLASSES) and label != taken_for and count > 5
    assert set(estimate.to_dict()) == {"images", "labels", "accuracy", "with_twice", "confused"}


def test_only_random_images_are_left_out_of_a_fit() -> None:
    labels = torch.tensor([0] * 10 + [1] * 10 + [1] * 4)
    targets = torch.nn.functional.one_hot(labels, 3).float()
    digests = [bytes([index % 2, 3 if label else index % 3]) for index, label in enumerate(labels.tolist())]
    random = torch.arange(24) < 20  # all dogs among them are in one part, and a model knows the chosen ones only
    estimate = run(Estimator("classification"), 10 * targets, targets, random, digests, CLASSES)
    assert estimate.accuracy is not None and estimate.accuracy.value == 1.0


def test_there_is_none_of_few_random_images() -> None:
    features, targets, digests = make_problem(50, noise=0.0)
    estimate = run(Estimator("classification"), features, targets, torch.arange(50) < 9, digests, CLASSES)
    assert estimate.accuracy is None and estimate.with_twice is None


def test_more_labels_are_expected_to_bring_more() -> None:
    features, targets, digests = make_problem(120, noise=0.0)
    estimate = run(Estimator("classification"), features, targets, torch.ones(120, dtype=torch.bool), digests, CLASSES)
    assert estimate.accuracy is not None
    assert estimate.with_twice is None or estimate.accuracy.value < estimate.with_twice <= 1
