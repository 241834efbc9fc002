from collections import Counter

import pytest
import torch
from PIL import Image

from megavit.config.target import Target
from megavit.data.dataset import LabeledImages, Sample
from megavit.predict.postprocess.ood import fit_mahalanobis_ood
from megavit.training.report.examples import (
    NUM_EXAMPLES,
    REFERENCE_IMAGES,
    REFERENCE_SIDE,
    Explanations,
    limit_size,
    select_examples,
    select_ood_samples,
    select_reference_images,
)


def labeled(labels: list[int], classes: int, channels: int = 1) -> LabeledImages:
    """Picture i is all of brightness i, so that a mix-up shows."""
    memory = {f"{i}": torch.full((channels, 4, 4), i, dtype=torch.uint8) for i in range(len(labels))}
    samples = tuple(Sample(f"{i}", label, "test", 4, 4, channels, f"{i}") for i, label in enumerate(labels))
    return LabeledImages("demo:x", None, tuple(f"c{k}" for k in range(classes)), samples, (), "all of it", memory)


def certain(answers: list[int], confidence: list[float], classes: int) -> torch.Tensor:
    probabilities = torch.zeros(len(answers), classes)
    for i, (answer, share) in enumerate(zip(answers, confidence, strict=True)):
        probabilities[i] = (1 - share) / (classes - 1)
        probabilities[i, answer] = share
    return probabilities


@pytest.mark.parametrize(
    ("height", "width", "shape"),
    [(4, 4, (4, 4)), (512, 300, (512, 300)), (1024, 512, (512, 256)), (3, 5000, (1, 512))],
)
def test_large_pictures_are_made_smaller_and_none_vanishes(height, width, shape):
    assert limit_size(torch.zeros(3, height, width, dtype=torch.uint8), REFERENCE_SIDE).shape == (3, *shape)


@pytest.mark.parametrize("classes", [2, REFERENCE_IMAGES, REFERENCE_IMAGES + 5])
def test_reference_images_are_the_first_of_each_class(classes):
    labels = [label for label in reversed(range(classes)) for _ in range(2)]
    found = [int(picture[0, 0, 0]) for picture in select_reference_images(labeled(labels, classes))]
    assert found == [labels.index(label) for label in range(classes)][:REFERENCE_IMAGES]


@pytest.mark.parametrize("channels", [1, 3])
def test_examples_are_the_surest_mistakes_then_right_answers(channels):
    answers, confidence = [0, 1, 0, 1], [0.9, 0.6, 0.7, 0.8]
    shown = select_examples(labeled([0, 0, 1, 0], 2, channels), certain(answers, confidence, 2), Target())
    assert [(one.name, one.truth, one.top[0][0]) for one in shown] == [
        ("3", "c0", "c1"),
        ("2", "c1", "c0"),
        ("1", "c0", "c1"),
        ("0", "c0", "c0"),
    ]
    assert shown[0].image.shape == ((4, 4) if channels == 1 else (4, 4, 3)) and shown[0].image.max() == 3
    assert sum(share for _, share in shown[0].top) == pytest.approx(1)


@pytest.mark.parametrize("right", [True, False])
def test_of_many_examples_a_few_are_shown(right):
    count = 5 * NUM_EXAMPLES
    shown = select_examples(labeled([0] * count, 4), certain([0 if right else 1] * count, [0.9] * count, 4), Target())
    assert len(shown) == NUM_EXAMPLES and all(one.is_correct == right and len(one.top) == 3 for one in shown)
    if right:
        assert int(shown[-1].name) >= count // 2  # spread over all of them, not the first few


@pytest.mark.parametrize(("channels", "shape"), [(2, (4, 4)), (4, (4, 4, 3)), (7, (4, 4, 3))])
def test_of_many_channels_the_first_three_are_shown(channels, shape):
    shown = select_examples(labeled([0, 1], 2, channels), certain([0, 1], [0.9, 0.9], 2), Target())
    assert shown[0].image.shape == shape


def test_each_example_has_its_own_overlay():
    def explain(pictures):
        return [Image.fromarray(picture.expand(3, -1, -1).permute(1, 2, 0).numpy() + 100) for picture in pictures]

    outputs = certain([0, 1, 0, 1], [0.9, 0.6, 0.7, 0.8], 2)
    shown = select_examples(labeled([0, 0, 1, 0], 2), outputs, Target(), Explanations(explain, seconds=60))
    for one in shown:
        assert one.overlay is not None and one.overlay.shape == (4, 4, 3)
        assert (one.overlay == int(one.name) + 100).all()


@pytest.mark.parametrize(("second", "explained"), [(0.0, 20), (1.0, 7), (5.0, 4), (100.0, 4)])
def test_as_many_examples_are_explained_as_the_time_allows_wrong_and_correct_in_turn(monkeypatch, second, explained):
    now = [0.0]
    monkeypatch.setattr("megavit.training.report.examples.time.monotonic", lambda: now[0])

    def explain(pictures):
        now[0] += second * len(pictures)
        return [Image.new("RGB", (4, 4))] * len(pictures)

    truth = [0] * 12 + [1] * 8
    outputs = certain([0] * 20, [0.9 - i / 100 for i in range(20)], 2)
    shown = select_examples(labeled(truth, 2), outputs, Target(), Explanations(explain, seconds=7.5))
    wrong = [one.overlay is not None for one in shown if not one.is_correct]
    correct = [one.overlay is not None for one in shown if one.is_correct]
    assert (sum(wrong) + sum(correct) == explained and abs(sum(wrong) - sum(correct)) <= 1) or explained == 20
    assert wrong == sorted(wrong, reverse=True) and correct == sorted(correct, reverse=True)


def of_classes(classes: int, each: int) -> list[Sample]:
    return [Sample(f"{i}.png", i // each, "train", 8, 8, 1, f"{i:016x}") for i in range(classes * each)]


@pytest.mark.parametrize(("classes", "each", "expected"), [(10, 60, 600), (10, 400, 2000), (300, 60, 3000), (9, 3, 27)])
def test_new_images_are_compared_with_enough_of_every_class(classes, each, expected):
    training = of_classes(classes, each)
    chosen = select_ood_samples(training)
    assert len(chosen) == expected and set(chosen) <= set(training)
    assert min(Counter(sample.target for sample in chosen).values()) >= min(10, each)
    kept = set(chosen)
    assert [sample for sample in training if sample in kept] == chosen


def test_scores_have_no_classes_to_be_compared_with():
    scores = [Sample(f"{i}.png", i / 7, "train", 8, 8, 1, f"{i:016x}") for i in range(5000)]
    assert select_ood_samples(scores) == scores[::3]


@pytest.mark.parametrize("classes", [100, 2000])
def test_images_of_unseen_classes_are_marked_however_many_classes_there_are(classes):
    random = torch.Generator().manual_seed(0)
    training = of_classes(classes, 20)
    means = torch.randn(classes + 50, 64, generator=random)

    def images_of(labels: torch.Tensor) -> torch.Tensor:
        return means[labels] + 0.8 * torch.randn(len(labels), 64, generator=random)

    known = torch.tensor([sample.label for sample in select_ood_samples(training)])
    trained = fit_mahalanobis_ood(images_of(known), known)
    validation = trained.distance(images_of(torch.arange(classes).repeat(4000 // classes)))
    threshold = validation.quantile(0.99)
    unseen = trained.distance(images_of(classes + torch.arange(50).repeat(20)))
    # With one image of each class, as of 2,000 in all, every one of them is taken for a known one.
    assert (unseen > threshold).float().mean() > 0.85
