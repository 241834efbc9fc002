"""k nearest neighbours among embeddings: how far a model's features tell images apart with nothing learnt on them."""

from collections.abc import Callable

import torch
from torch import Tensor

from megavit.evaluate.folds import folds

NEIGHBOURS = (1, 3, 5, 10, 20, 50)
# A neighbour counts by its similarity: exp(cosine / this) (arXiv 1805.01978, section 3.4).
TEMPERATURE = 0.07
# More images than that choose k no better.
CHOOSING = 2000


def votes(learnt: Tensor, targets: Tensor, embeddings: Tensor, k: int) -> Tensor:
    """The mean of the `k` nearest neighbours' targets, (M, outputs).

    Args:
        learnt: (N, D) embeddings whose targets are known.
        targets: (N, outputs) of these, floats.
        embeddings: (M, D) to be answered for.
        k: neighbours, by cosine; all there are, if fewer.
    """
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=min(k, len(learnt)), metric="cosine", algorithm="brute")
    distances, places = near.fit(learnt.numpy()).kneighbors(embeddings.numpy())
    weights = (-torch.from_numpy(distances).float() / TEMPERATURE).softmax(dim=1)
    return torch.einsum("mk,mko->mo", weights, targets[torch.from_numpy(places)])


def choose_k(
    embeddings: Tensor, targets: Tensor, stratum: Tensor, metric: Callable[[Tensor, Tensor], float], seed: int = 0
) -> int:
    """The number of neighbours that is best in cross-validation; the fewest of equals.

    Args:
        embeddings, targets: as of `votes`.
        stratum: what the folds are balanced by, (N,) or (N, labels).
        metric: of votes and the places of their images; the higher the better.
    """
    divisions = folds(stratum, seed=seed)
    if len(embeddings) > CHOOSING:
        divisions = [(divisions[0][0], divisions[0][1][:CHOOSING])]
    held = torch.cat([division[1] for division in divisions])

    def score(k: int) -> float:
        found = [votes(embeddings[one], targets[one], embeddings[other], k) for one, other in divisions]
        return metric(torch.cat(found), held)

    return max(NEIGHBOURS, key=score)
