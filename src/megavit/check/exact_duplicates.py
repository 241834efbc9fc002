"""Groups of images that are copies of each other, and what follows from where they are and how they are labeled."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from megavit.check.finding import Finding, label_of
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.split.split_names import SPLITS

Pair = tuple[int, int, float]
"""Places of two images among the samples, and how similar they are, in [0, 1]."""


def exact_pairs(samples: Sequence[Sample]) -> list[Pair]:
    """The first image of every file's content with each of its copies; their similarity is 1."""
    first: dict[str, int] = {}
    pairs: list[Pair] = []
    for place, sample in enumerate(samples):
        before = first.setdefault(sample.digest, place)
        if before != place:
            pairs.append((before, place, 1.0))
    return pairs


def copy_findings(images: LabeledImages, pairs: Iterable[Pair]) -> list[Finding]:
    """For each group of copies: that it lies in several splits, or within one; and that its labels differ.

    Pairs with an image in common are one group, whose score is its least similarity.
    """
    found: list[Finding] = []
    for places, similarity in _groups(pairs):
        group = [images.samples[place] for place in places]
        group.sort(key=lambda sample: (SPLITS.index(sample.split), sample.name))
        names = tuple(sample.name for sample in group)
        same = len({sample.digest for sample in group}) == 1
        what = "the same file" if same else f"nearly the same picture ({similarity:.1%} alike)"
        splits = [split for split in SPLITS if any(sample.split == split for sample in group)]
        if len(splits) > 1:
            found.append(Finding("leak", f"{what} in {' and '.join(splits)}", names, score=similarity))
        else:
            times = "twice" if len(group) == 2 else f"{len(group):,} times"
            found.append(Finding("copy", f"{what} {times} in {splits[0]}", names, score=similarity))
        labels = list(dict.fromkeys(label_of(sample, images.classes) for sample in group))
        if len(labels) > 1:
            told = ", ".join(label or "no label" for label in labels[:5])
            found.append(Finding("conflict", f"{what} with the labels {told}", names, score=similarity))
    return found


def _groups(pairs: Iterable[Pair]) -> list[tuple[list[int], float]]:
    """Places that pairs lead to from one another, and their least similarity."""
    beside: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for one, other, similarity in pairs:
        beside[one].append((other, similarity))
        beside[other].append((one, similarity))
    groups: list[tuple[list[int], float]] = []
    seen: set[int] = set()
    for start in sorted(beside):
        if start in seen:
            continue
        seen.add(start)
        group, least = [start], 1.0
        for place in group:  # which grows
            for other, similarity in beside[place]:
                least = min(least, similarity)
                if other not in seen:
                    seen.add(other)
                    group.append(other)
        groups.append((group, least))
    return groups
