"""Spread labels to the nearest neighbors in the space of features (arXiv 1904.04717, section 3.2)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

NEIGHBORS = 20
# Weight of the neighbors in each step, beside the labels; the weight of a neighbor is its cosine to this power.
NEIGHBOR_SHARE, POWER, STEPS = 0.95, 3, 30
# Variance that is added to that of each principal component of the standardized features before whitening.
RIDGE = 1.0


class NeighborGraph:
    """The nearest neighbors among the images of embeddings (N, D), after whitening, by which labels are spread."""

    def __init__(self, embeddings: Tensor) -> None:
        from scipy.sparse import csr_array, diags_array
        from sklearn.neighbors import NearestNeighbors

        rows = F.normalize(whiten(embeddings), dim=1).numpy()
        self._count, count = len(rows), min(NEIGHBORS, len(rows) - 1)
        index = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(rows)
        distances, neighbors = index.kneighbors()  # of each row, without itself
        weights = np.clip(1 - distances, 0, None).astype(np.float64) ** POWER
        starts = np.arange(len(rows) + 1) * count
        directed = csr_array((weights.ravel(), neighbors.ravel(), starts), shape=(len(rows), len(rows)))
        edges = directed + directed.T
        scale = diags_array(1 / np.sqrt(np.maximum(edges.sum(axis=1), 1e-12)))
        self._edges = csr_array(scale @ edges @ scale)

    def spread(self, indices: Tensor, targets: Tensor) -> Tensor:
        """Return the share of each class in the votes for every image, (N, C) float64, from the images at `indices`.

        Classes begin with equal weight, whatever their number of images; `targets` (M, C) are their soft targets.
        """
        given: NDArray[np.float64] = np.zeros((self._count, targets.shape[1]))
        given[indices.numpy()] = (targets.double() / targets.double().sum(dim=0).clamp_min(1e-12)).numpy()
        votes = given
        for _ in range(STEPS):
            votes = NEIGHBOR_SHARE * (self._edges @ votes) + (1 - NEIGHBOR_SHARE) * given
        found = torch.from_numpy(votes)
        total = found.sum(dim=1, keepdim=True)
        return torch.where(total > 0, found / total.clamp_min(1e-300), 1 / targets.shape[1])


def whiten(embeddings: Tensor) -> Tensor:
    """Return embeddings (N, D) with mean 0 and, up to `RIDGE`, uncorrelated features of equal variance."""
    features = embeddings.double()
    std = features.std(dim=0, correction=0)
    scaled = (features - features.mean(dim=0)) / torch.where(std > 1e-6 * std.max().clamp_min(1e-12), std, torch.inf)
    variances, axes = torch.linalg.eigh(scaled.T @ scaled / len(scaled))
    return (scaled @ (axes / (variances.clamp_min(0) + RIDGE).sqrt())).float()
