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
NEIGHBORS, MIN_DENSITY, MIN_DOUBT = 20, 1e-3, 0.3
"""Neighbors by which an image is typical, and the smallest values of that and of doubt, of which few labels say little.

An image's worth is its doubt, plus the smallest, times how typical it is, times how unlike the labeled ones. In a
simulation with ten heaps of 800 photographs of clothing, the classifier was better than in random order by 4.2 points
(± 1.9) after 20 labels, 3.1 (± 1.0) after 50 and 4.2 (± 1.1) after 100; by doubt alone by 0.0 (± 2.2), -1.8 (± 1.9) and
-0.8 (± 1.1).
"""
_DENSITY_SAMPLE = 2_000


def score_usefulness(probabilities: Tensor, counts: Tensor, target: TargetKind) -> Tensor:
    """Return how much an image would teach, (N,), positive: its doubt, more if it may be of a class with few labels.

    Args:
        probabilities: (N, classes).
        counts: (classes,) number of labeled images of each class.
    """
    rarity = (1 + counts.float()).rsqrt()
    rarity = rarity / rarity.max()
    if target == "multilabel":
        return MIN_DOUBT + ((1 - (2 * probabilities - 1).abs()) * rarity).amax(dim=1)
    best = probabilities.topk(min(2, probabilities.shape[1]), dim=1).values
    doubt = 1 - (best[:, 0] - best[:, 1]) if best.shape[1] > 1 else torch.ones(len(best))
    return (MIN_DOUBT + doubt) * (0.5 + 0.5 * (probabilities @ rarity))


def measure_density(features: Tensor) -> Tensor:
    """Return how typical images are, (N,): the mean cosine similarity to their nearest among some of all, positive.

    Args:
        features: (N, D).
    """
    rows = F.normalize(features, dim=1)
    some = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:_DENSITY_SAMPLE]]
    count = min(NEIGHBORS + 1, len(some))
    nearest = [(part @ some.T).topk(count, dim=1).values for part in rows.split(_DENSITY_SAMPLE)]
    return torch.cat(nearest).mean(dim=1).clamp_min(MIN_DENSITY)


def choose_diverse(features: Tensor, usefulness: Tensor, count: int, known: Tensor | None = None) -> list[int]:
    """Return the indices of `count` images, each useful, and unlike those before it and those of `known`.

    Args:
        features: (N, D), of which the directions are compared.
        usefulness: (N,), positive.
        known: (M, D) features of images that are labeled already; None if there are none.
    """
    candidates = usefulness.topk(min(max(CANDIDATES, 4 * count), len(usefulness))).indices
    rows = F.normalize(features[candidates], dim=1)
    value, nearest = usefulness[candidates].clone(), torch.zeros(len(candidates))
    if known is not None and len(known):
        nearest = (rows @ F.normalize(known, dim=1).T).amax(dim=1)
    chosen: list[int] = []
    for _ in range(min(count, len(candidates))):
        best = int((value * (1 - nearest.clamp(0, 1))).argmax())
        chosen.append(best)
        nearest = torch.maximum(nearest, rows @ rows[best])
        value[best] = -1.0
    return candidates[torch.tensor(chosen, dtype=torch.int64)].tolist()


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
