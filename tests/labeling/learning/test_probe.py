"""A probe that grows learns what there is to learn, from where it was."""

import pytest
import torch

from megavit.labeling.learning.probe import GrowingProbe, Scaling


def make_clusters(count: int, classes: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centers = 2 * torch.eye(classes, 8)
    features = centers[labels] + torch.randn(count, 8, generator=random)
    return features, torch.nn.functional.one_hot(labels, classes).float()


def test_it_learns_classes_and_those_that_come_later() -> None:
    features, targets = make_clusters(300)
    standardized = Scaling.of(features)(features)
    probe = GrowingProbe("classification")
    two = targets[:, 2] == 0
    probe.fit(standardized[two], targets[two, :2])
    assert probe.weight.shape == (2, 8)
    probe.fit(standardized, targets)
    probabilities = probe.predict(standardized)
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(300))
    assert (probabilities.argmax(dim=1) == targets.argmax(dim=1)).double().mean() > 0.8


def test_a_fit_ends_where_one_from_nothing_ends() -> None:
    features, targets = make_clusters(200)
    standardized = Scaling.of(features)(features)
    one, other = GrowingProbe("classification"), GrowingProbe("classification")
    one.fit(standardized, targets)
    for count in (20, 60, 120, 200):
        other.fit(standardized[:count], targets[:count])
    torch.testing.assert_close(one.predict(standardized), other.predict(standardized), atol=0.01, rtol=0.0)


def test_a_fit_to_many_images_ends_early_and_another_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = make_clusters(200)
    standardized = Scaling.of(features)(features)
    whole, parts = GrowingProbe("classification"), GrowingProbe("classification")
    assert whole.fit(standardized, targets)
    monkeypatch.setattr("megavit.labeling.learning.probe.WORK", 1.0)
    assert not parts.fit(standardized, targets)
    fits = 1
    while not parts.fit(standardized, targets):
        fits += 1
    assert fits < 10
    torch.testing.assert_close(whole.predict(standardized), parts.predict(standardized), atol=0.05, rtol=0.0)


def test_labels_are_independent_where_an_image_has_several() -> None:
    features, targets = make_clusters(300)
    both = torch.cat([targets[:, :1], targets[:, :1]], dim=1)
    standardized = Scaling.of(features)(features)
    probe = GrowingProbe("multilabel")
    probe.fit(standardized, both)
    probabilities = probe.predict(standardized)
    assert ((probabilities > 0.5) == both.bool()).double().mean() > 0.8
    assert (probabilities.sum(dim=1) > 1.5).any()


def test_features_that_are_constant_are_left_alone() -> None:
    features = torch.cat([torch.randn(50, 2), torch.full((50, 1), 3.0)], dim=1)
    standardized = Scaling.of(features)(features)
    assert (standardized[:, 2] == 0).all()
    torch.testing.assert_close(standardized[:, :2].std(dim=0, correction=0), torch.ones(2))
