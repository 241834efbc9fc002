import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.errors import ConfigError
from megavit.predict.postprocess.conformal import (
    MAX_CACHED_COVERAGES,
    PredictionSets,
    check_coverage,
    conformal_quantile,
    is_possible,
)
from megavit.predict.postprocess.predictions import cumulative_mass_above


def probabilities(images: int, classes: int, seed: int = 0) -> torch.Tensor:
    return (3 * torch.randn(images, classes, generator=torch.Generator().manual_seed(seed))).softmax(dim=1)


def masses(shares: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(cumulative_mass_above(shares.numpy()))


def members_of(sets: PredictionSets, shares: torch.Tensor, coverage: float) -> torch.Tensor:
    return torch.from_numpy(sets.members(shares.numpy(), coverage))


def drawn(given: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Classes drawn by other probabilities than those given, as for a model that is wrong about itself."""
    random = torch.Generator().manual_seed(seed)
    return given.sqrt().multinomial(1, generator=random)[:, 0]


def sets(images: int, classes: int, seed: int = 0) -> PredictionSets:
    shares = probabilities(images, classes, seed)
    labels = drawn(shares, seed)
    return PredictionSets(masses(shares).gather(1, labels[:, None])[:, 0], labels, classes)


def test_the_mass_of_likelier_classes():
    found = masses(torch.tensor([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]]))
    torch.testing.assert_close(found, torch.tensor([[0.8, 0.0, 0.5], [0.0, 0.4, 0.8]], dtype=torch.float64))


def test_however_many_coverages_are_asked_for_few_are_remembered():
    found = sets(200, 3)
    first = members_of(found, probabilities(5, 3), 0.5)
    for i in range(3 * MAX_CACHED_COVERAGES):
        members_of(found, probabilities(5, 3), 0.1 + i / 1000)
        assert len(found._limits) <= MAX_CACHED_COVERAGES
    assert torch.equal(members_of(found, probabilities(5, 3), 0.5), first)


def test_the_limit_is_the_finite_sample_quantile():
    scores = torch.tensor([3.0, 1.0, 2.0, 4.0])
    # Of 4 images, the k-th smallest score is not exceeded with probability k / 5.
    assert [conformal_quantile(scores, coverage) for coverage in (0.2, 0.21, 0.6, 0.8)] == [1.0, 2.0, 3.0, 4.0]
    assert conformal_quantile(scores, 0.81) == math.inf


@given(images=st.integers(20, 300), classes=st.integers(2, 12), seed=st.integers(0, 99), coverage=st.floats(0.05, 0.94))
def test_a_set_holds_the_likeliest_class_and_grows_with_the_coverage(images, classes, seed, coverage):
    found, shares = sets(images, classes, seed), probabilities(50, classes, seed + 1)
    members = members_of(found, shares, coverage)
    assert members.gather(1, shares.argmax(dim=1, keepdim=True)).all()
    if not found.is_class_conditional(coverage) and not found.is_class_conditional(coverage / 2):
        assert (members_of(found, shares, coverage / 2) <= members).all()
        # Whoever is in brings all that are likelier along.
        least = torch.where(members, shares, torch.inf).amin(dim=1, keepdim=True)
        assert members[shares > least].all()


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.99])
@pytest.mark.parametrize("classes", [2, 10])
def test_sets_hold_the_true_class_as_often_as_promised(classes, coverage):
    # The model is wrong about itself: only the calibration makes the promise true. Over many calibrations, since
    # one of them is a little above or below by chance.
    held = []
    for seed in range(40):
        shares = probabilities(400, classes, 1000 + seed)
        members = members_of(sets(200, classes, seed), shares, coverage)
        held.append(members.gather(1, drawn(shares, 2000 + seed)[:, None]).double().mean().item())
    assert sum(held) / len(held) > coverage - 0.01


def test_each_class_has_what_was_promised_where_its_images_allow_it():
    shares = probabilities(6000, 3)
    # Of class 2 the model knows little: it is as likely as any, whatever the probabilities.
    labels = torch.where(torch.rand(6000, generator=torch.Generator().manual_seed(1)) < 0.3, 2, drawn(shares))
    scores = masses(shares).gather(1, labels[:, None])[:, 0]
    learned = PredictionSets(scores[:3000], labels[:3000], 3)
    assert learned.is_class_conditional(0.9) and not learned.is_class_conditional(0.9995)
    inside = members_of(learned, shares[3000:], 0.9).gather(1, labels[3000:, None])[:, 0]
    for label in range(3):
        assert inside[labels[3000:] == label].double().mean() > 0.87


def test_a_coverage_that_takes_more_images_is_refused_with_what_can_be_had():
    for images, coverage in ((99, 0.99), (19, 0.95), (1, 0.5)):
        check_coverage(coverage, images)
        assert is_possible(coverage, images) and not is_possible(coverage, images - 1)
        with pytest.raises(ConfigError, match=rf"needs at least {images} validation images"):
            check_coverage(coverage, images - 1)
    for wrong in (0.0, 1.0, -1.0, 95.0, math.nan):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            check_coverage(wrong, 100)
