import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.data_check.confident_learning import (
    calibrate_probabilities,
    confident_classes,
    mean_confidence,
    score_label_issues,
)

# Six images of each of two classes, of which the last of the first one was labeled wrongly.
LABELS = torch.tensor([0] * 6 + [1] * 6)
OWN = torch.tensor([0.9, 0.8, 0.9, 0.8, 0.9, 0.1, 0.7, 0.6, 0.7, 0.6, 0.7, 0.6])
SHARES = torch.where(torch.arange(2) == LABELS[:, None], OWN[:, None], 1 - OWN[:, None])


def test_mean_confidence_is_the_mean_of_a_class_own_probability():
    torch.testing.assert_close(mean_confidence(SHARES, LABELS), torch.tensor([4.4 / 6, 3.9 / 6]))


def test_an_image_counts_as_the_likeliest_class_whose_mean_confidence_it_reaches():
    shares = torch.tensor([[0.9, 0.1], [0.3, 0.7], [0.5, 0.5]] + [[0.7, 0.3]] * 4 + [[0.4, 0.6]] * 5)
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    usual = mean_confidence(shares, labels)
    torch.testing.assert_close(usual, torch.tensor([4.5 / 7, 0.6]))
    assert confident_classes(shares, labels).tolist() == [0, 1, -1] + [0] * 4 + [1] * 5


def test_the_wrong_label_is_the_only_one_in_doubt():
    found = score_label_issues(SHARES, LABELS)
    assert found.indices.tolist() == [5] and found.suggested.tolist() == [1]
    assert found.scores.item() == pytest.approx(0.9)


def test_a_class_of_few_images_is_neither_doubted_nor_suggested():
    labels = torch.tensor([0] * 6 + [1] * 2)
    shares = torch.tensor([[0.9, 0.1]] * 5 + [[0.1, 0.9]] + [[0.95, 0.05]] * 2)
    assert mean_confidence(shares, labels)[1] == torch.inf
    assert not len(score_label_issues(shares, labels).indices)


@given(st.integers(0, 2**31), st.integers(2, 6), st.integers(10, 80))
def test_doubts_are_of_other_likelier_classes_and_the_worst_come_first(seed, classes, images):
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (images,), generator=random)
    shares = (3 * torch.randn(images, classes, generator=random)).softmax(dim=1)
    found = score_label_issues(shares, labels)
    own = shares[found.indices, labels[found.indices]]
    assert (found.suggested != labels[found.indices]).all() and (found.scores > 0.5).all()
    other = shares[found.indices, found.suggested]
    torch.testing.assert_close(other / (own + other), found.scores)
    assert (found.scores.diff() <= 0).all() and len(found.indices.unique()) == len(found.indices)


@pytest.mark.parametrize("seed", range(5))
def test_the_issues_are_those_of_cleanlab_that_another_class_is_likelier_for(seed):
    from cleanlab.filter import find_label_issues

    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (400,), generator=random)
    logits = 3 * torch.randn(400, 4, generator=random, dtype=torch.float64)
    probabilities = (logits + 2 * torch.nn.functional.one_hot(labels, 4)).softmax(dim=1)
    mask = torch.from_numpy(
        find_label_issues(labels.numpy(), probabilities.numpy(), filter_by="confident_learning", n_jobs=1)
    )
    counted = confident_classes(probabilities, labels)
    other, own = (probabilities.gather(1, one.clamp_min(0)[:, None])[:, 0] for one in (counted, labels))
    expected = torch.nonzero(mask & (other > own)).flatten()
    assert len(expected) > 20
    assert score_label_issues(probabilities, labels).indices.sort().values.tolist() == expected.tolist()


def test_calibration_undoes_a_wrong_temperature_and_keeps_the_order():
    random = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(5_000, 4, generator=random, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=random)[:, 0]
    one, other = (calibrate_probabilities((logits * factor).softmax(dim=1), labels) for factor in (0.8, 1.2))
    assert (one - other).abs().mean() < 0.02  # from either side it comes to nearly the same
    assert torch.equal(one.argmax(dim=1), logits.argmax(dim=1))


def test_wrong_labels_do_not_make_the_others_less_sure():
    truth = torch.arange(300) % 3
    shares = torch.where(torch.arange(3) == truth[:, None], 0.8, 0.1)
    labels = torch.where(torch.arange(300) < 30, (truth + 1) % 3, truth)
    found = score_label_issues(calibrate_probabilities(shares, labels), labels)
    assert sorted(found.indices.tolist()) == list(range(30)) and found.scores.min() > 0.999
