"""Draw images for a split: within each class, by a seed, with identical files together."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from hashlib import blake2b


def draw_groups(labels: Sequence[str], digests: Sequence[str], seed: int) -> dict[str, list[list[int]]]:
    """Return the groups of identical images (lists of indices) of each class, in the order in which they are drawn.

    The order depends on the seed, the class name and the digests only. Identical files belong to the smallest of their
    classes.
    """
    by_digest = _group(digests)
    label_counts = Counter(labels)
    groups: dict[str, list[str]] = defaultdict(list)
    for digest, indices in by_digest.items():
        groups[min((labels[index] for index in indices), key=lambda label: (label_counts[label], label))].append(digest)
    return {
        label: [by_digest[digest] for digest in sorted(found, key=lambda digest: _draw_key(seed, label, digest))]
        for label, found in groups.items()
    }


def choose_groups(groups: Iterable[list[int]], val: float, test: float) -> dict[str, list[int]]:
    """Choose groups of identical images for test and val, in order, if they fit."""
    groups = list(groups)
    sizes = _split_sizes(sum(map(len, groups)), val, test)
    chosen: dict[str, list[int]] = {"test": [], "val": []}
    remaining: list[list[int]] = []
    for group in groups:
        for split, images in chosen.items():
            if len(images) + len(group) <= sizes[split]:
                images += group
                break
        else:
            remaining.append(group)
    for split, images in chosen.items():
        # If every group is larger than the share, an oversized split is better than none.
        if sizes[split] and not images and len(remaining) > 1:
            smallest = min(remaining, key=len)
            remaining.remove(smallest)
            images += smallest
    return chosen


def return_to_train(splits: list[str], labels: Sequence[str], digests: Sequence[str], seed: int) -> None:
    """Return images to train, in place, of each class all of whose files went to val and test with other classes."""
    by_digest = _group(digests)
    in_train = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    for label in sorted(set(labels) - in_train):
        own = {digest for digest, digest_label in zip(digests, labels, strict=True) if digest_label == label}
        smallest = min(own, key=lambda digest: (len(by_digest[digest]), _draw_key(seed, label, digest)))
        for index in by_digest[smallest]:
            splits[index] = "train"


def _group(digests: Sequence[str]) -> dict[str, list[int]]:
    by_digest: dict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        by_digest[digest].append(index)
    return by_digest


def _draw_key(seed: int, label: str, digest: str) -> bytes:
    text = f"{seed}\0{digest}\0{label}".encode("utf-8", "surrogateescape")
    return blake2b(text, digest_size=8).digest()


def _split_sizes(images: int, val: float, test: float) -> dict[str, int]:
    sizes = {
        split: max(int(images * share + 0.5), int(images >= 3)) if share else 0
        for split, share in (("val", val), ("test", test))
    }
    while sum(sizes.values()) >= images:
        sizes[max(sizes, key=lambda split: sizes[split])] -= 1
    return sizes
