"""Group images by class, label, or range of scores, so that each split gets its share of every group."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

MAX_BINS = 10  # largest number of score ranges

MIN_PER_BIN = 10  # smallest number of images in a score range, so that each split gets one


def stratify(targets: Sequence[str | tuple[str, ...] | float], digests: Sequence[str]) -> list[str]:
    """Return the group of each image by its class, labels or score; with labels or scores, equal digests share a group.

    A class is a group. An image with labels belongs to the rarest, so that rare labels get into all splits (the first
    step of iterative stratification, Sechidis et al. 2011), and one without labels to the group "". Scores are divided
    into up to ten ranges with equally many images.
    """
    labels = [target for target in targets if isinstance(target, tuple)]
    scores = [target for target in targets if isinstance(target, float)]
    if scores:
        return _by_score(scores, digests)
    if labels:
        return _by_rarest(labels, digests)
    return [str(target) for target in targets]


def _by_rarest(labels: Sequence[tuple[str, ...]], digests: Sequence[str]) -> list[str]:
    label_counts = Counter(name for names in labels for name in names)
    labels_by_digest: dict[str, set[str]] = {}
    for names, digest in zip(labels, digests, strict=True):
        labels_by_digest.setdefault(digest, set()).update(names)
    return [
        min(labels_by_digest[digest], key=lambda name: (label_counts[name], name), default="") for digest in digests
    ]


def _by_score(scores: Sequence[float], digests: Sequence[str]) -> list[str]:
    scores_by_digest: dict[str, list[float]] = {}
    for score, digest in zip(scores, digests, strict=True):
        scores_by_digest.setdefault(digest, []).append(score)
    means = {digest: fmean(values) for digest, values in scores_by_digest.items()}
    ranked = sorted(means, key=lambda digest: (means[digest], digest))
    bins = max(1, min(MAX_BINS, len(ranked) // MIN_PER_BIN))
    group = {digest: str(rank * bins // len(ranked)) for rank, digest in enumerate(ranked)}
    return [group[digest] for digest in digests]
