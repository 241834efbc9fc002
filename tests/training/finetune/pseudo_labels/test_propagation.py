"""Labels spread to the nearest neighbors, whatever the scale of the features."""

import torch

from megavit.training.finetune.pseudo_labels.propagation import NEIGHBORS, NeighborGraph, whiten


def make_clusters(images: int = 60, scale: float = 1.0) -> torch.Tensor:
    """Two clusters in turn, in two of eight features; another feature is noise of a large scale."""
    random = torch.Generator().manual_seed(0)
    rows = 0.3 * torch.randn(images, 8, generator=random)
    rows[::2, 0] += 2.0
    rows[1::2, 1] += 2.0
    rows[:, 7] *= 100 * scale
    return rows


def test_two_labels_reach_the_images_of_their_clusters() -> None:
    graph = NeighborGraph(make_clusters())
    votes = graph.spread(torch.tensor([0, 1]), torch.eye(2))
    assert votes.shape == (60, 2) and torch.allclose(votes.sum(dim=1), torch.ones(60, dtype=torch.float64))
    assert (votes.argmax(dim=1) == torch.arange(60) % 2).double().mean() > 0.8
    assert votes[0, 0] > 0.8 and votes[1, 1] > 0.8


def test_many_labels_of_a_class_do_not_outvote_few_of_another() -> None:
    votes = NeighborGraph(make_clusters()).spread(
        torch.tensor([0, 1, *range(3, 40, 2)]), torch.eye(2)[[0, 1] + [1] * 19]
    )
    assert votes[::2].argmax(dim=1).double().mean() < 0.2


def test_whitened_features_have_no_scale() -> None:
    rows = whiten(make_clusters())
    assert torch.allclose(rows, whiten(make_clusters(scale=7.0) + 5.0), atol=1e-3)
    assert rows.std(dim=0, correction=0).max() < 1.0


def test_fewer_images_than_neighbors_and_equal_ones_are_no_fault() -> None:
    for rows in (make_clusters(6), torch.ones(NEIGHBORS + 5, 8)):
        votes = NeighborGraph(rows).spread(torch.tensor([0, 1]), torch.eye(2))
        assert votes.isfinite().all() and torch.allclose(votes.sum(dim=1), torch.ones(len(rows), dtype=torch.float64))
