"""Split images for training, validation and test: stratified, seeded, with identical files together."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from hashlib import blake2b

from megavit.config.recipe import DataRecipe
from megavit.config.target import TargetKind
from megavit.data.split.split_names import SPLITS

SPLIT_POPULATION: dict[TargetKind, str] = {
    "classification": "each class's training images",
    "multilabel": "the training images of each label, an image counting with its rarest one",
    "regression": "each tenth of the training images by score",
}
"""The images of which splits take their shares, by kind of target."""


def assign_splits(labels: Sequence[str], digests: Sequence[str], val: float, test: float, seed: int) -> list[str]:
    """Return the split of each image, drawn within its class, with equal digests in the same split.

    The order of drawing depends on the seed, the class name and the digests only, so that other classes and new file
    names move no image, except files that occur in several classes. Of n images, round(n × share) go to val and to
    test, at least one each if n is 3 or more and the share is not 0, and at least one stays in train. Identical files
    are drawn with the smallest of their classes. The shares are in [0, 1) and together below 1.
    """
    by_digest: dict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        by_digest[digest].append(index)
    label_counts = Counter(labels)
    groups: dict[str, list[str]] = defaultdict(list)
    for digest, indices in by_digest.items():
        groups[min((labels[index] for index in indices), key=lambda label: (label_counts[label], label))].append(digest)
    splits = ["train"] * len(labels)
    for label, group_digests in groups.items():
        shuffled = sorted(group_digests, key=lambda digest: _draw_key(seed, label, digest))
        for split, drawn in _choose_groups([by_digest[digest] for digest in shuffled], val, test).items():
            for index in drawn:
                splits[index] = split
    # All files of a class may have gone to val and test with other classes.
    in_train = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    for label in sorted(set(labels) - in_train):
        group_digests = {digest for digest, digest_label in zip(digests, labels, strict=True) if digest_label == label}
        for index in by_digest[
            min(group_digests, key=lambda digest: (len(by_digest[digest]), _draw_key(seed, label, digest)))
        ]:
            splits[index] = "train"
    return splits


def complete_splits(
    defined: Sequence[str | None],
    groups: Sequence[str],
    digests: Sequence[str],
    recipe: DataRecipe,
    target: TargetKind = "classification",
) -> tuple[list[str], str]:
    """Return the split of each image, drawn from the training images if missing, and a sentence on the splits.

    Args:
        defined: "train", "val" or "test"; None if the data does not define an image's split.
        groups: group of each image, such as its class, within which splits are drawn.
        digests: digest of each image; equal for identical files.
    """
    splits = ["train" if split is None else split for split in defined]
    present = [split for split in SPLITS if split in defined]
    shares = {
        split: share for split, share in (("val", recipe.val), ("test", recipe.test)) if split not in present and share
    }
    pool = [index for index, split in enumerate(splits) if split == "train"]
    drawn = assign_splits(
        [groups[index] for index in pool],
        [digests[index] for index in pool],
        shares.get("val", 0.0),
        shares.get("test", 0.0),
        recipe.seed,
    )
    for index, split in zip(pool, drawn, strict=True):
        splits[index] = split
    defined_text = f"{', '.join(present)} as defined by the data" if present else ""
    amounts = " and ".join(f"{share:.3g} for {split}" for split, share in shares.items())
    drawn_text = f"of {SPLIT_POPULATION[target]}, {amounts}, drawn with seed {recipe.seed}" if shares else ""
    return splits, "; ".join(filter(None, (defined_text, drawn_text))) or "all images are for training"


def _draw_key(seed: int, label: str, digest: str) -> bytes:
    text = f"{seed}\0{digest}\0{label}".encode("utf-8", "surrogateescape")
    return blake2b(text, digest_size=8).digest()


def _choose_groups(groups: list[list[int]], val: float, test: float) -> dict[str, list[int]]:
    """Choose groups of identical images for test and val, in order, if they fit."""
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


def _split_sizes(images: int, val: float, test: float) -> dict[str, int]:
    sizes = {
        split: max(int(images * share + 0.5), int(images >= 3)) if share else 0
        for split, share in (("val", val), ("test", test))
    }
    while sum(sizes.values()) >= images:
        sizes[max(sizes, key=lambda split: sizes[split])] -= 1
    return sizes
