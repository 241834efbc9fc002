import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from megavit.evaluation.probes.baselines import (
    IMPORT_SECONDS,
    MAX_TRAIN_IMAGES,
    METHODS,
    MIN_SECONDS,
    BaselinePlan,
    SmallImages,
    Split,
    fit_baselines,
    plan_baselines,
    shrink,
    spread_evenly,
)

ALL = METHODS[0][0]


@pytest.fixture(scope="module")
def digits() -> Split:
    """scikit-learn's digits: 600 to fit on, 150 to select settings on, 150 to predict."""
    pixels, labels = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    images = SmallImages((pixels.view(-1, 1, 8, 8) * 255 / 16).to(torch.uint8), labels)
    return Split(*(images.select(torch.arange(*ends)) for ends in ((0, 600), (600, 750), (750, 900))))


def colors(images: int, side: int, seed: int) -> SmallImages:
    """Noise that is red or blue."""
    noise = torch.randint(0, 80, (images, 3, side, side), generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(images) % 2
    noise[torch.arange(images), 2 * labels] += 120
    return SmallImages(noise.to(torch.uint8), labels)


def test_real_digits_are_told_by_thumbnails_the_same_each_time_and_nothing_is_random(digits):
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    plan = plan_baselines((600, 150, 150), (1, 8, 8), 10, 10)
    first, second = fit_baselines(digits, plan), fit_baselines(digits, plan)
    assert [one.method for one in first] == ["nearest neighbors", "logistic regression"]  # too small for gradients
    assert min((one.predicted == digits.test.labels).double().mean().item() for one in first) > 0.85
    for one, other in zip(first, second, strict=True):
        assert one.setting == other.setting and torch.equal(one.predicted, other.predicted)
    assert torch.equal(before, torch.random.get_rng_state()) and threads == torch.get_num_threads()


def test_predictions_are_for_exactly_the_test_images_in_their_order(digits):
    plan = BaselinePlan(ALL[:2], 300, 1)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))[:40]
    whole, part = (fit_baselines(digits._replace(test=test), plan) for test in (digits.test, digits.test.select(order)))
    for one, other in zip(whole, part, strict=True):
        assert one.predicted.shape == (150,) and torch.equal(one.predicted[order], other.predicted)


def test_the_color_counts_although_normalized_thumbnails_do_not_have_it():
    split = Split(colors(60, 24, 0), colors(20, 24, 1), colors(20, 24, 2))
    found = fit_baselines(split, BaselinePlan(ALL, 60, 1))
    assert all(torch.equal(one.predicted, split.test.labels) for one in found) and len(found) == 3


def test_one_class_and_few_images_are_predicted_too():
    single = colors(4, 8, 0)
    single = single.select(torch.tensor([0, 2]))
    for one in fit_baselines(Split(single, single, single), BaselinePlan(ALL[:2], 2, 1)):
        assert one.predicted.tolist() == [0, 0]


@given(
    st.tuples(st.integers(1, 300_000), st.integers(1, 50_000), st.integers(1, 50_000)),
    st.integers(1, 64),
    st.integers(2, 32),
    st.integers(1, 2000),
    st.floats(0, 60),
)
def test_the_expected_seconds_are_within_the_time_unless_little_is_possible(sizes, channels, side, classes, seconds):
    plan = plan_baselines(sizes, (channels, side, side), classes, seconds)
    assert "nearest neighbors" in plan.methods and 1 <= plan.images <= min(sizes[0], MAX_TRAIN_IMAGES)
    if plan.methods != ("nearest neighbors",):
        assert plan.seconds <= max(seconds, IMPORT_SECONDS + MIN_SECONDS) * 1.001
        assert plan.images >= min(sizes[0], 10 * classes, MAX_TRAIN_IMAGES)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 70))
def test_a_part_of_the_images_has_every_class_in_its_share(labels, count):
    labels = torch.tensor(labels)
    chosen = spread_evenly(labels, count)
    assert len(chosen) == min(count, len(labels)) and chosen.tolist() == sorted(set(chosen.tolist()))
    for label in labels.unique():
        expected = (labels == label).sum() * len(chosen) / len(labels)
        assert abs((labels[chosen] == label).sum() - expected) <= 1


def test_shrinking_averages_and_images_of_any_aspect_get_one_size():
    image = torch.tensor([[0, 100, 200, 200], [100, 200, 0, 0]], dtype=torch.uint8)[None, None]
    assert shrink(image, (1, 2)).tolist() == [[[[100, 100]]]]
    assert shrink([image[0], image[0].repeat(1, 3, 1)], (2, 2)).shape == (2, 1, 2, 2)
    assert shrink(image, (2, 4)) is image
