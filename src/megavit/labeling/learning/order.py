"""Choose the images to label next: those that teach most, with random ones among them."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.config.target import TargetKind

RANDOM_EVERY = 4
"""One in so many images is the next in random order, for an honest estimate."""
CANDIDATES = 400
"""Number of the most useful images among which those that differ from each other are chosen."""
_COLD_SAMPLE = 2_000


def score_usefulness(probabilities: Tensor, counts: Tensor, target: TargetKind) -> Tensor:
    """Return how much an image would teach, (N,): its doubt, more if it may be of a class with few labels.

    Args:
        probabilities: (N, classes).
        counts: (classes,) number of labeled images of each class.
    """
    rarity = (1 + counts.float()).rsqrt()
    rarity = rarity / rarity.max()
    if target == "multilabel":
        return ((1 - (2 * probabilities - 1).abs()) * rarity).amax(dim=1)
    best = probabilities.topk(min(2, probabilities.shape[1]), dim=1).values
    doubt = 1 - (best[:, 0] - best[:, 1]) if best.shape[1] > 1 else torch.ones(len(best))
    return doubt * (0.5 + 0.5 * (probabilities @ rarity))


def choose_diverse(features: Tensor, usefulness: Tensor, count: int) -> list[int]:
    """Return the indices of `count` images, each useful and unlike those before it.

    Args:
        features: (N, D), of which the directions are compared.
        usefulness: (N,), positive.
    """
    candidates = usefulness.topk(min(max(CANDIDATES, 4 * count), len(usefulness))).indices
    rows = F.normalize(features[candidates], dim=1)
    value, nearest = usefulness[candidates].clone(), torch.zeros(len(candidates))
    chosen: list[int] = []
    for _ in range(min(count, len(candidates))):
        best = int((value * (1 - nearest.clamp_min(0))).argmax())
        chosen.append(best)
        nearest = torch.maximum(nearest, rows @ rows[best])
        value[best] = -1.0
    return candidates[torch.tensor(chosen, dtype=torch.int64)].tolist()


def choose_typical(features: Tensor, count: int) -> list[int]:
    """Return the indices of `count` images that are typical of all: those nearest to the centers of clusters."""
    from sklearn.cluster import KMeans

    rows = F.normalize(features[:_COLD_SAMPLE], dim=1)
    clusters = KMeans(min(count, len(rows)), n_init=1, max_iter=20, random_state=0).fit(rows.numpy())
    distances = torch.from_numpy(clusters.transform(rows.numpy()))
    sizes = torch.from_numpy(clusters.labels_).long().bincount(minlength=distances.shape[1])
    nearest = distances.argmin(dim=0)[sizes.argsort(descending=True)]
    return list(dict.fromkeys(nearest.tolist()))


def mix(useful: Sequence[int], random: Sequence[int], decided: int = 0) -> Iterator[int]:
    """Yield images, each once, and one in `RANDOM_EVERY` of them from `random`.

    Args:
        decided: number of images before these, so that it is one in so many whatever the number that is asked for.
    """
    seen: set[int] = set()
    sources = {True: iter(random), False: iter(useful)}
    place = decided
    while sources:
        wants_random = place % RANDOM_EVERY == 0
        key = wants_random if wants_random in sources else not wants_random
        image = next((one for one in sources[key] if one not in seen), None)
        if image is None:
            del sources[key]
            continue
        seen.add(image)
        place += 1
        yield image
