"""How far an image is from the training images, by the model's own features."""

import torch
from torch import Tensor

RIDGE = 1e-3
"""Of the mean variance, added to each: directions in which the training images do not vary must not count without
limit."""
MIN_VARIANCE = 1e-12
"""Of features that are all alike, which have none."""


class MahalanobisOOD:
    """Mahalanobis distances from the nearest group of training images (arXiv 1807.03888, section 2.1).

    It detects out-of-distribution images better than the distance from the nearest training images, and than any
    figure of the logits, where measured (docs/benchmarks.md).

    Args:
        means: (G, D), of each group's embeddings.
        whitening: (D, D); a step of 1 in `embedding @ whitening` is one standard deviation within the groups.
    """

    def __init__(self, means: Tensor, whitening: Tensor) -> None:
        self.means, self.whitening = means, whitening
        # The means come out of the product: whitened apart they would be large numbers with small differences.
        self.center = means.mean(dim=0)
        self.groups = (means - self.center) @ whitening

    def distance(self, embeddings: Tensor) -> Tensor:
        """Return the distance of each of (B, D), in standard deviations: (B,)."""
        return torch.cdist((embeddings - self.center) @ self.whitening, self.groups).amin(dim=1)


def fit_mahalanobis_ood(embeddings: Tensor, groups: Tensor) -> MahalanobisOOD:
    """Fit the means and the shared covariance of training images.

    Args:
        embeddings: (N, D).
        groups: (N,), whole numbers, such as the images' classes.
    """
    wide = embeddings.double()
    _, index = groups.unique(return_inverse=True)
    count = int(index.max()) + 1
    sums = torch.zeros(count, wide.shape[1], dtype=wide.dtype).index_add_(0, index, wide)
    means = sums / index.bincount(minlength=count)[:, None]
    within = wide - means[index]
    covariance = within.T @ within / len(wide)
    covariance.diagonal().add_(RIDGE * covariance.diagonal().mean().clamp_min(MIN_VARIANCE))
    whitening = torch.linalg.cholesky(torch.linalg.inv(covariance))
    return MahalanobisOOD(means.float(), whitening.float())
