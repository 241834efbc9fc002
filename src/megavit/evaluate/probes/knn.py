"""k nearest neighbors among embeddings: how far a model's features tell images apart with nothing learned on them."""

from collections.abc import Callable

import torch
from torch import Tensor

from megavit.evaluate.probes.cross_validation import Fold, make_folds
from megavit.runtime.seeds import generator

NEIGHBORS = (1, 3, 5, 10, 20, 50)
# A neighbor counts by its similarity: exp(cosine / this) (arXiv 1805.01978, section 3.4).
TEMPERATURE = 0.07
# So many images are enough to choose k by.
SEVERAL = 2_000


def knn_predict(learned: Tensor, targets: Tensor, embeddings: Tensor, k: int) -> Tensor:
    """The mean of the `k` nearest neighbors' targets, (M, outputs).

    Args:
        learned: (N, D) embeddings whose targets are known.
        targets: (N, outputs) of these, floats.
        embeddings: (M, D) to be answered for.
        k: neighbors, by cosine; all there are, if fewer.
    """
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=min(k, len(learned)), metric="cosine", algorithm="brute")
    distances, places = near.fit(learned.numpy()).kneighbors(embeddings.numpy())
    weights = (-torch.from_numpy(distances).float() / TEMPERATURE).softmax(dim=1)
    return torch.einsum("mk,mko->mo", weights, targets[torch.from_numpy(places)])


def select_k(
    embeddings: Tensor, targets: Tensor, stratum: Tensor, metric: Callable[[Tensor, Tensor], float], seed: int = 0
) -> int:
    """The number of neighbors that is best in cross-validation; the fewest of equals.

    Args:
        embeddings, targets: as of `knn_predict`.
        stratum: what the folds are balanced by, (N,) or (N, labels).
        metric: of votes and the places of their images; the higher the better.
    """
    divisions = make_folds(stratum, seed=seed)
    if len(embeddings) > SEVERAL:
        learned, held = divisions[0]
        chosen = torch.randperm(len(held), generator=generator(seed))[:SEVERAL]
        divisions = [Fold(learned, held[chosen])]
    places = torch.cat([division.held_out for division in divisions])

    def score(k: int) -> float:
        found = [
            knn_predict(embeddings[one.train], targets[one.train], embeddings[one.held_out], k) for one in divisions
        ]
        return metric(torch.cat(found), places)

    return max(NEIGHBORS, key=score)
