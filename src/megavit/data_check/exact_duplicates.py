"""Find exact duplicates, and report duplicates as leaks between splits, copies or conflicting labels."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from megavit.data.dataset import LabeledImages, Sample
from megavit.data.split.split_names import SPLITS
from megavit.data_check.finding import Finding, format_target


class DuplicatePair(NamedTuple):
    """The indices of two samples, and their similarity in [0, 1]."""

    first: int
    second: int
    similarity: float


def find_exact_duplicates(samples: Sequence[Sample]) -> list[DuplicatePair]:
    """Return pairs of the first sample of each file content with each of its copies."""
    first: dict[str, int] = {}
    pairs: list[DuplicatePair] = []
    for i, sample in enumerate(samples):
        original = first.setdefault(sample.digest, i)
        if original != i:
            pairs.append(DuplicatePair(original, i, 1.0))
    return pairs


def duplicate_findings(images: LabeledImages, pairs: Iterable[DuplicatePair]) -> list[Finding]:
    """Return the findings of each group of duplicates: a leak or a duplicate, and possibly a label conflict.

    Groups are the connected components of the pairs; a group's score is its lowest similarity.
    """
    findings: list[Finding] = []
    for members, similarity in _group_pairs(pairs):
        group = sorted(
            (images.samples[i] for i in members), key=lambda sample: (SPLITS.index(sample.split), sample.name)
        )
        names = tuple(sample.name for sample in group)
        same = len({sample.digest for sample in group}) == 1
        what = "the same file" if same else f"nearly the same image ({similarity:.1%} similar)"
        splits = [split for split in SPLITS if any(sample.split == split for sample in group)]
        if len(splits) > 1:
            findings.append(Finding("leak", f"{what} in {' and '.join(splits)}", names, score=similarity))
        else:
            times = "twice" if len(group) == 2 else f"{len(group):,} times"
            findings.append(Finding("duplicate", f"{what} {times} in {splits[0]}", names, score=similarity))
        labels = list(dict.fromkeys(format_target(sample, images.classes) for sample in group))
        if len(labels) > 1:
            listed = ", ".join(label or "no label" for label in labels[:5])
            findings.append(Finding("label_conflict", f"{what} with the labels {listed}", names, score=similarity))
    return findings


def _group_pairs(pairs: Iterable[DuplicatePair]) -> list[tuple[list[int], float]]:
    """Return the connected components of the pairs, each with its lowest similarity."""
    neighbors: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for first, second, similarity in pairs:
        neighbors[first].append((second, similarity))
        neighbors[second].append((first, similarity))
    groups: list[tuple[list[int], float]] = []
    visited: set[int] = set()
    for start in sorted(neighbors):
        if start in visited:
            continue
        visited.add(start)
        group, min_similarity = [start], 1.0
        for member in group:  # grows in the loop
            for other, similarity in neighbors[member]:
                min_similarity = min(min_similarity, similarity)
                if other not in visited:
                    visited.add(other)
                    group.append(other)
        groups.append((group, min_similarity))
    return groups
