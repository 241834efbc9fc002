"""Detect out-of-distribution images by their distance from the training images in feature space."""

import torch
from torch import Tensor

RIDGE = 1e-3  # share of the mean variance that is added to every variance, so that none is near 0
MIN_VARIANCE = 1e-12  # lower bound of the mean variance, for constant features


class MahalanobisOOD:
    """Mahalanobis distances from the nearest group of training images (arXiv 1807.03888, section 2.1).

    They detect out-of-distribution images best of the compared scores (docs/benchmarks.md).

    Args:
        means: (G, D), mean embedding of each group.
        whitening: (D, D); a distance of 1 in `embedding @ whitening` is one standard deviation within the groups.
    """

    def __init__(self, means: Tensor, whitening: Tensor) -> None:
        self.means, self.whitening = means, whitening
        # Centered before whitening, which would otherwise give large numbers with small differences.
        self.center = means.mean(dim=0)
        self.groups = (means - self.center) @ whitening

    def distance(self, embeddings: Tensor) -> Tensor:
        """Return the distances (B,), in standard deviations, of embeddings (B, D)."""
        return torch.cdist((embeddings - self.center) @ self.whitening, self.groups).amin(dim=1)


def fit_mahalanobis_ood(embeddings: Tensor, groups: Tensor) -> MahalanobisOOD:
    """Fit the group means and the shared covariance of embeddings (N, D), with integer groups (N,) such as classes."""
    features = embeddings.double()
    _, index = groups.unique(return_inverse=True)
    count = int(index.max()) + 1
    sums = torch.zeros(count, features.shape[1], dtype=features.dtype).index_add_(0, index, features)
    means = sums / index.bincount(minlength=count)[:, None]
    centered = features - means[index]
    covariance = centered.T @ centered / len(features)
    covariance.diagonal().add_(RIDGE * covariance.diagonal().mean().clamp_min(MIN_VARIANCE))
    whitening = torch.linalg.cholesky(torch.linalg.inv(covariance))
    return MahalanobisOOD(means.float(), whitening.float())
