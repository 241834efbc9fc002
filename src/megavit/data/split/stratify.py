"""Group images by class, label, or range of values, so that every split gets its share of each."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

BINS = 10
"""Ranges of scores at most."""

PER_BIN = 10
"""Images at least in a range of scores, so that each gives one to every split."""


def stratify(targets: Sequence[str | tuple[str, ...] | float], digests: Sequence[str]) -> list[str]:
    """Return the group of each image; identical files with labels or numbers are in one group.

    A class is a group. An image of several labels belongs to its rarest one, so that a rare label is not
    left out of a split by the chance of the frequent ones (the first step of iterative stratification,
    Sechidis et al. 2011); one without labels, to the group "". Scores are cut into up to ten ranges of equally
    many images.

    Args:
        targets: all class names, all tuples of label names, or all scores.
        digests: equal for identical files.
    """
    labels = [target for target in targets if isinstance(target, tuple)]
    scores = [target for target in targets if isinstance(target, float)]
    if scores:
        return _by_score(scores, digests)
    if labels:
        return _by_rarest(labels, digests)
    return [str(target) for target in targets]


def _by_rarest(labels: Sequence[tuple[str, ...]], digests: Sequence[str]) -> list[str]:
    images = Counter(name for names in labels for name in names)
    together: dict[str, set[str]] = {}
    for names, digest in zip(labels, digests, strict=True):
        together.setdefault(digest, set()).update(names)
    return [min(together[digest], key=lambda name: (images[name], name), default="") for digest in digests]


def _by_score(scores: Sequence[float], digests: Sequence[str]) -> list[str]:
    same: dict[str, list[float]] = {}
    for score, digest in zip(scores, digests, strict=True):
        same.setdefault(digest, []).append(score)
    means = {digest: fmean(found) for digest, found in same.items()}
    ranked = sorted(means, key=lambda digest: (means[digest], digest))
    bins = max(1, min(BINS, len(ranked) // PER_BIN))
    group = {digest: str(place * bins // len(ranked)) for place, digest in enumerate(ranked)}
    return [group[digest] for digest in digests]
