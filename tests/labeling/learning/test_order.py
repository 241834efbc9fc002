"""The next images are those in doubt, unlike each other, of rare classes; and every so often a random one."""

import torch

from megavit.labeling.learning.order import choose_diverse, choose_typical, mix, score_usefulness


def test_doubt_counts_and_rare_classes_count_more() -> None:
    probabilities = torch.tensor([[0.98, 0.01, 0.01], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5]])
    sure, common, rare = score_usefulness(probabilities, torch.tensor([50, 50, 2]), "classification").tolist()
    assert sure < 0.1 < common < rare


def test_an_image_of_one_of_whose_labels_there_is_doubt_counts() -> None:
    probabilities = torch.tensor([[0.99, 0.01], [0.99, 0.5]])
    sure, doubtful = score_usefulness(probabilities, torch.tensor([5, 5]), "multilabel").tolist()
    assert sure < 0.1 < doubtful


def test_copies_are_not_asked_for_twice() -> None:
    features = torch.cat([torch.eye(4).repeat(5, 1), torch.eye(4)])
    chosen = choose_diverse(features, torch.ones(24), 4)
    assert sorted(index % 4 for index in chosen) == [0, 1, 2, 3]


def test_the_most_useful_comes_first_and_no_image_twice() -> None:
    usefulness = torch.rand(50, generator=torch.Generator().manual_seed(0)) + 0.1
    chosen = choose_diverse(torch.randn(50, 6, generator=torch.Generator().manual_seed(1)), usefulness, 100)
    assert chosen[0] == usefulness.argmax()
    assert sorted(chosen) == list(range(50))


def test_each_cluster_is_represented_before_there_are_labels() -> None:
    random = torch.Generator().manual_seed(0)
    features = 10 * torch.eye(3)[torch.arange(90) % 3] + torch.randn(90, 3, generator=random)
    assert sorted(index % 3 for index in choose_typical(features, 3)) == [0, 1, 2]


def test_one_in_four_is_random_and_none_comes_twice() -> None:
    found = list(mix([1, 2, 3, 4], [9, 2, 8, 7, 6, 5]))
    assert found[:5] == [9, 1, 2, 3, 8]
    assert sorted(found) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [next(mix([1], [9], decided)) for decided in range(8)] == [9, 1, 1, 1, 9, 1, 1, 1]
    assert list(mix([], [3, 2])) == [3, 2]
    assert list(mix([3, 2], [])) == [3, 2]
