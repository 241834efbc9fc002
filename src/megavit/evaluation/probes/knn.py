"""Predict from embeddings with k nearest neighbors, to measure the quality of features without training."""

from collections.abc import Callable

import torch
from torch import Tensor

from megavit.evaluation.probes.cross_validation import Fold, make_folds
from megavit.runtime.seeds import generator

NEIGHBORS = (1, 3, 5, 10, 20, 50)
# A neighbor's weight is exp(cosine / temperature) (arXiv 1805.01978, section 3.4).
TEMPERATURE = 0.07
# Maximum number of images to select k on.
MAX_SELECTION_IMAGES = 2_000


def knn_predict(train: Tensor, targets: Tensor, embeddings: Tensor, k: int) -> Tensor:
    """Return the weighted mean of the targets of the `k` nearest neighbors, (M, outputs).

    Args:
        train: (N, D) embeddings with known targets.
        targets: (N, outputs) floats, the targets of `train`.
        embeddings: (M, D) embeddings to predict for.
        k: number of neighbors by cosine similarity, at most N.
    """
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=min(k, len(train)), metric="cosine", algorithm="brute")
    distances, neighbors = index.fit(train.numpy()).kneighbors(embeddings.numpy())
    weights = (-torch.from_numpy(distances).float() / TEMPERATURE).softmax(dim=1)
    return torch.einsum("mk,mko->mo", weights, targets[torch.from_numpy(neighbors)])


def select_k(
    embeddings: Tensor, targets: Tensor, strata: Tensor, metric: Callable[[Tensor, Tensor], float], seed: int = 0
) -> int:
    """Return the number of neighbors with the best metric in cross-validation; of ties the smallest.

    Args:
        embeddings, targets: (N, D) embeddings and their (N, outputs) targets.
        strata: (N,) or (N, labels) targets to stratify the folds by.
        metric: function from predictions and their images' indices to a score, higher is better.
    """
    folds = make_folds(strata, seed=seed)
    if len(embeddings) > MAX_SELECTION_IMAGES:
        train, held_out = folds[0]
        chosen = torch.randperm(len(held_out), generator=generator(seed))[:MAX_SELECTION_IMAGES]
        folds = [Fold(train, held_out[chosen])]
    indices = torch.cat([fold.held_out for fold in folds])

    def score(k: int) -> float:
        predictions = [
            knn_predict(embeddings[fold.train], targets[fold.train], embeddings[fold.held_out], k) for fold in folds
        ]
        return metric(torch.cat(predictions), indices)

    return max(NEIGHBORS, key=score)
