"""The next images are those in doubt, unlike each other, of rare classes; and every so often a random one."""

import torch

from megavit.labeling.learning.order import MIN_DOUBT, choose_diverse, measure_density, mix, score_usefulness


def test_doubt_counts_and_rare_classes_count_more() -> None:
    probabilities = torch.tensor([[0.98, 0.01, 0.01], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5]])
    sure, common, rare = score_usefulness(probabilities, torch.tensor([50, 50, 2]), "classification").tolist()
    assert MIN_DOUBT / 2 < sure < 0.35 < common < rare


def test_an_image_of_one_of_whose_labels_there_is_doubt_counts() -> None:
    probabilities = torch.tensor([[0.99, 0.01], [0.99, 0.5]])
    sure, doubtful = score_usefulness(probabilities, torch.tensor([5, 5]), "multilabel").tolist()
    assert MIN_DOUBT < sure < 0.35 < doubtful


def test_copies_are_not_asked_for_twice() -> None:
    features = torch.cat([torch.eye(4).repeat(5, 1), torch.eye(4)])
    chosen = choose_diverse(features, torch.ones(24), 4)
    assert sorted(index % 4 for index in chosen) == [0, 1, 2, 3]


def test_the_most_useful_comes_first_and_no_image_twice() -> None:
    usefulness = torch.rand(50, generator=torch.Generator().manual_seed(0)) + 0.1
    chosen = choose_diverse(torch.randn(50, 6, generator=torch.Generator().manual_seed(1)), usefulness, 100)
    assert chosen[0] == usefulness.argmax()
    assert sorted(chosen) == list(range(50))


def make_clusters() -> torch.Tensor:
    """Return 30 features of each of three clusters in turn."""
    noise = torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    return 10 * torch.eye(3)[torch.arange(90) % 3] + noise


def test_each_cluster_is_represented_before_there_are_labels() -> None:
    features = make_clusters()
    assert sorted(index % 3 for index in choose_diverse(features, measure_density(features), 3)) == [0, 1, 2]


def test_what_is_labeled_already_is_not_asked_for_again() -> None:
    features = make_clusters()
    known = features[torch.arange(90) % 3 != 2][:10]
    (chosen,) = choose_diverse(features, measure_density(features), 1, known)
    assert chosen % 3 == 2


def test_an_image_like_many_is_typical_and_a_strange_one_is_not() -> None:
    strange = -torch.ones(1, 3)
    density = measure_density(torch.cat([make_clusters(), strange]))
    assert density.argmin() == 90 and density[:90].min() > 0.5 and density[90] > 0


def test_images_are_typical_by_some_of_them_if_they_are_many() -> None:
    features = make_clusters().repeat(50, 1)
    assert torch.allclose(measure_density(features)[:90], measure_density(features)[-90:])
    assert measure_density(features).min() > 0.9


def test_one_in_four_is_random_and_none_comes_twice() -> None:
    found = list(mix([1, 2, 3, 4], [9, 2, 8, 7, 6, 5]))
    assert found[:5] == [9, 1, 2, 3, 8]
    assert sorted(found) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [next(mix([1], [9], decided)) for decided in range(8)] == [9, 1, 1, 1, 9, 1, 1, 1]
    assert list(mix([], [3, 2])) == [3, 2]
    assert list(mix([3, 2], [])) == [3, 2]
