import torch
from torch.nn import functional as F

from megavit.evaluation.probes.knn import NEIGHBORS, knn_predict, select_k


def clouds(images: int, spread: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings around three directions, and which."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % 3
    return F.one_hot(labels, 5).float() + spread * torch.randn(images, 5, generator=random), labels


def test_the_nearest_by_direction_votes_whatever_its_length():
    learned = torch.tensor([[1.0, 0.0], [0.0, 100.0]])
    found = knn_predict(learned, torch.eye(2), torch.tensor([[50.0, 1.0], [0.1, 0.2]]), k=1)
    assert found.tolist() == [[1, 0], [0, 1]]


def test_votes_are_shares_of_the_neighbors_the_nearer_the_more():
    learned, labels = clouds(30, 0.3)
    found = knn_predict(learned, F.one_hot(labels, 3).float(), clouds(9, 0.3, seed=1)[0], k=10)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(9))
    near = knn_predict(torch.tensor([[1.0, 0.0], [1.0, 0.3]]), torch.eye(2), torch.tensor([[1.0, 0.0]]), k=2)
    assert near[0, 0] > near[0, 1] > 0


def test_more_neighbors_than_there_are_is_all_of_them():
    learned, labels = clouds(4, 0.3)
    assert knn_predict(learned, F.one_hot(labels, 3).float(), learned, k=50).shape == (4, 3)


def test_k_is_large_where_single_neighbors_mislead_and_small_where_classes_are_tiny():
    def chosen(embeddings, labels):
        soft = F.one_hot(labels, 3).float()
        return select_k(embeddings, soft, labels, lambda v, at: (v.argmax(1) == labels[at]).float().mean().item())

    embeddings, labels = clouds(120, 0.2)
    noisy = torch.where(torch.rand(120, generator=torch.Generator().manual_seed(0)) < 0.3, (labels + 1) % 3, labels)
    assert chosen(embeddings, noisy) >= 5
    assert chosen(*clouds(30, 0.01)) == NEIGHBORS[0]
