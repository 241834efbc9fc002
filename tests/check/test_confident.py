import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.check.confident import calibrated, counted_as, doubts, usual_confidence

# Six images of each of two classes, of which the last of the first one was labelled wrongly.
LABELS = torch.tensor([0] * 6 + [1] * 6)
OWN = torch.tensor([0.9, 0.8, 0.9, 0.8, 0.9, 0.1, 0.7, 0.6, 0.7, 0.6, 0.7, 0.6])
SHARES = torch.where(torch.arange(2) == LABELS[:, None], OWN[:, None], 1 - OWN[:, None])


def test_usual_confidence_is_the_mean_of_a_class_own_probability():
    torch.testing.assert_close(usual_confidence(SHARES, LABELS), torch.tensor([4.4 / 6, 3.9 / 6]))


def test_an_image_counts_as_the_likeliest_class_whose_usual_confidence_it_reaches():
    shares = torch.tensor([[0.9, 0.1], [0.3, 0.7], [0.5, 0.5]] + [[0.7, 0.3]] * 4 + [[0.4, 0.6]] * 5)
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    usual = usual_confidence(shares, labels)
    torch.testing.assert_close(usual, torch.tensor([4.5 / 7, 0.6]))
    assert counted_as(shares, labels).tolist() == [0, 1, -1] + [0] * 4 + [1] * 5


def test_the_wrong_label_is_the_only_one_in_doubt():
    found = doubts(SHARES, LABELS)
    assert found.places.tolist() == [5] and found.suggested.tolist() == [1]
    assert found.margins.item() == pytest.approx(0.8)


def test_a_class_of_few_images_is_neither_doubted_nor_suggested():
    labels = torch.tensor([0] * 6 + [1] * 2)
    shares = torch.tensor([[0.9, 0.1]] * 5 + [[0.1, 0.9]] + [[0.95, 0.05]] * 2)
    assert usual_confidence(shares, labels)[1] == torch.inf
    assert not len(doubts(shares, labels).places)


@given(st.integers(0, 2**31), st.integers(2, 6), st.integers(10, 80))
def test_doubts_are_of_other_likelier_classes_and_the_worst_come_first(seed, classes, images):
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (images,), generator=random)
    shares = (3 * torch.randn(images, classes, generator=random)).softmax(dim=1)
    found = doubts(shares, labels)
    own = shares[found.places, labels[found.places]]
    assert (found.suggested != labels[found.places]).all() and (found.margins > 0).all()
    torch.testing.assert_close(shares[found.places, found.suggested] - own, found.margins)
    assert (found.margins.diff() <= 0).all() and len(found.places.unique()) == len(found.places)


def test_calibration_undoes_a_wrong_temperature_and_keeps_the_order():
    random = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 4, generator=random, dtype=torch.float64)
    right = logits.softmax(dim=1)
    labels = torch.multinomial(right, 1, generator=random)[:, 0]
    for factor in (0.3, 3.0):
        found = calibrated((logits * factor).softmax(dim=1), labels)
        assert (found - right).abs().mean() < 0.01
        assert torch.equal(found.argmax(dim=1), right.argmax(dim=1))
