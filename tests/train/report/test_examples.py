import pytest
import torch
from PIL import Image

from megavit.config.target import Target
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.image_dataset import limit_size
from megavit.train.report.examples import EXAMPLES, REFERENCE_IMAGES, REFERENCE_SIDE, examples, reference_images


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
def test_golden_pictures_are_the_first_of_each_class(classes):
    labels = [label for label in reversed(range(classes)) for _ in range(2)]
    found = [int(picture[0, 0, 0]) for picture in reference_images(labeled(labels, classes))]
    assert found == [labels.index(label) for label in range(classes)][:REFERENCE_IMAGES]


@pytest.mark.parametrize("channels", [1, 3])
def test_examples_are_the_surest_mistakes_then_right_answers(channels):
    answers, confidence = [0, 1, 0, 1], [0.9, 0.6, 0.7, 0.8]
    shown = examples(labeled([0, 0, 1, 0], 2, channels), certain(answers, confidence, 2), Target())
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
    count = 5 * EXAMPLES
    shown = examples(labeled([0] * count, 4), certain([0 if right else 1] * count, [0.9] * count, 4), Target())
    assert len(shown) == EXAMPLES and all(one.right == right and len(one.top) == 3 for one in shown)
    if right:
        assert int(shown[-1].name) >= count // 2  # spread over all of them, not the first few


@pytest.mark.parametrize(("channels", "shape"), [(2, (4, 4)), (4, (4, 4, 3)), (7, (4, 4, 3))])
def test_of_many_channels_the_first_three_are_shown(channels, shape):
    shown = examples(labeled([0, 1], 2, channels), certain([0, 1], [0.9, 0.9], 2), Target())
    assert shown[0].image.shape == shape


def test_each_example_has_its_own_overlay():
    def explain(pictures):
        return [Image.fromarray(picture.expand(3, -1, -1).permute(1, 2, 0).numpy() + 100) for picture in pictures]

    shown = examples(labeled([0, 0, 1, 0], 2), certain([0, 1, 0, 1], [0.9, 0.6, 0.7, 0.8], 2), Target(), explain)
    for one in shown:
        assert one.overlay is not None and one.overlay.shape == (4, 4, 3)
        assert (one.overlay == int(one.name) + 100).all()
