"""Describe the images of an index by their embeddings: groups of similar ones, the hardest and the strangest."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from megavit.config.names import index_by_name
from megavit.predict.embedding_index import EmbeddingIndex, IndexedImage
from megavit.predict.predictor import Predictor

MAX_CLUSTERS, MIN_CLUSTER_SIZE = 24, 8
"""Number of groups at most, and the mean number of images in one at least."""
MAX_CLUSTERED = 20_000
"""Number of images that groups are found on; the others are assigned to the nearest one."""


@dataclass(frozen=True)
class RankedImage:
    """An image with the number that it is ranked by, and what is to be said of it."""

    image: IndexedImage
    value: float
    text: str


@dataclass(frozen=True)
class Cluster:
    """A group of similar images.

    Attributes:
        images: some of them, the most typical first.
        label, share: their most frequent label, and the share of images that have it.
        size: number of images.
    """

    images: tuple[IndexedImage, ...]
    label: str
    share: float
    size: int


def find_hardest(predictor: Predictor, index: EmbeddingIndex, count: int) -> list[RankedImage]:
    """Return the validation and test images whose own class is least probable; none for other than classes."""
    classes = index_by_name(predictor.labels)
    chosen = [
        position
        for position, image in enumerate(index.images)
        if image.split in ("val", "test") and image.label in classes
    ]
    if predictor.target != "classification" or not chosen:
        return []
    logits = predictor.model.mlp_head.cpu()(index.vectors[chosen]).detach()
    probabilities = predictor.calibrator.outputs(logits)
    truth = torch.tensor([classes[index.images[position].label] for position in chosen])
    own = probabilities.gather(1, truth[:, None])[:, 0]
    best = probabilities.argmax(dim=1)
    return [
        RankedImage(
            index.images[chosen[rank]],
            own[rank].item(),
            f"{index.images[chosen[rank]].label}: {own[rank]:.1%}, {predictor.labels[int(best[rank])]}: "
            f"{probabilities[rank, best[rank]]:.1%}",
        )
        for rank in own.argsort(stable=True)[:count].tolist()
    ]


def find_strangest(predictor: Predictor, index: EmbeddingIndex, count: int) -> list[RankedImage]:
    """Return the images whose embeddings are farthest from those of any class; none if the mark is not fitted."""
    ood, threshold = predictor.calibrator.ood, predictor.calibrator.calibration.ood_threshold
    if ood is None or threshold is None:
        return []
    distances = ood.distance(index.vectors)
    return [
        RankedImage(
            index.images[position],
            distances[position].item(),
            f"{distances[position] / threshold:.2f} of the distance that is marked",
        )
        for position in distances.argsort(descending=True, stable=True)[:count].tolist()
    ]


def find_clusters(index: EmbeddingIndex, count: int) -> list[Cluster]:
    """Return groups of similar images by k-means, the largest first, with up to `count` images of each."""
    from sklearn.cluster import KMeans

    number = min(MAX_CLUSTERS, len(index.images) // MIN_CLUSTER_SIZE)
    if number < 2:
        return []
    unit = F.normalize(index.vectors, dim=1).numpy()
    kmeans = KMeans(number, n_init=1, random_state=0).fit(unit[:: -(-len(unit) // MAX_CLUSTERED)])
    nearest = kmeans.predict(unit)
    distances = np.linalg.norm(unit - kmeans.cluster_centers_[nearest], axis=1)
    clusters: list[Cluster] = []
    for group in np.argsort(-np.bincount(nearest, minlength=number), kind="stable"):
        members = np.flatnonzero(nearest == group)
        ((label, frequency),) = Counter(index.images[position].label for position in members).most_common(1)
        order = members[np.argsort(distances[members], kind="stable")][:count]
        images = tuple(index.images[position] for position in order)
        clusters.append(Cluster(images, label, frequency / len(members), len(members)))
    return clusters
