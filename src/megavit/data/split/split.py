"""Split images for training, validation and test: stratified, seeded, identical files together."""

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
"""What the shares of the splits are drawn from, by the kind of target."""


def assign_splits(labels: Sequence[str], digests: Sequence[str], val: float, test: float, seed: int) -> list[str]:
    """Return the split of each image, drawn within its class, identical files on one side whatever their classes.

    The order in which a class is drawn depends on the seed, its name and its files' bytes alone: neither
    another class nor a new file name moves an image, but for files that are in both classes. Of n images,
    round(n × share) go to val and to test, at least one each where n is 3 or more, and at least one stays in train; a
    share of 0 gives none. Identical files stay together, which may cost a split a few images; of several classes,
    they are drawn with the one that has the fewest images.

    Args:
        labels: class names, one an image.
        digests: equal for identical files.
        val, test: shares in [0, 1), together below 1.
        seed: of the drawing.
    """
    same: dict[str, list[int]] = defaultdict(list)
    for place, digest in enumerate(digests):
        same[digest].append(place)
    images = Counter(labels)
    groups: dict[str, list[str]] = defaultdict(list)
    for digest, places in same.items():
        groups[min((labels[place] for place in places), key=lambda label: (images[label], label))].append(digest)
    splits = ["train"] * len(labels)
    for label, own in groups.items():
        drawn = sorted(own, key=lambda digest: _draw(seed, label, digest))
        for split, chosen in _share_out([same[digest] for digest in drawn], val, test).items():
            for place in chosen:
                splits[place] = split
    # A class whose files are all in other classes too may have lost every one to their val and test.
    learned = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    for label in sorted(set(labels) - learned):
        own = {digest for digest, other in zip(digests, labels, strict=True) if other == label}
        for place in same[min(own, key=lambda digest: (len(same[digest]), _draw(seed, label, digest)))]:
            splits[place] = "train"
    return splits


def complete_splits(
    given: Sequence[str | None],
    groups: Sequence[str],
    digests: Sequence[str],
    recipe: DataRecipe,
    target: TargetKind = "classification",
) -> tuple[list[str], str]:
    """Return the splits of the data, those that it lacks drawn from its training images, and a sentence on them.

    Args:
        given: "train", "val" or "test", or None for images of which the data does not say.
        groups: within which splits are drawn, such as classes.
        digests: equal for identical files.
        recipe: whose shares are of the images that are divided.
        target: for the sentence.
    """
    splits = ["train" if split is None else split for split in given]
    present = [split for split in SPLITS if split in given]
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
    as_given = f"{', '.join(present)} as the data has it" if present else ""
    amounts = " and ".join(f"{share:.3g} for {split}" for split, share in shares.items())
    ours = f"of {SPLIT_POPULATION[target]}, {amounts}, drawn with seed {recipe.seed}" if shares else ""
    return splits, "; ".join(filter(None, (as_given, ours))) or "everything is for training"


def _draw(seed: int, label: str, digest: str) -> bytes:
    ticket = f"{seed}\0{digest}\0{label}".encode("utf-8", "surrogateescape")
    return blake2b(ticket, digest_size=8).digest()


def _share_out(groups: list[list[int]], val: float, test: float) -> dict[str, list[int]]:
    """Choose images for val and test from groups of identical ones, in order where they fit."""
    wanted = _wanted(sum(map(len, groups)), val, test)
    chosen: dict[str, list[int]] = {"test": [], "val": []}
    left: list[list[int]] = []
    for group in groups:
        for split, images in chosen.items():
            if len(images) + len(group) <= wanted[split]:
                images += group
                break
        else:
            left.append(group)
    for split, images in chosen.items():
        # Where every group is larger than what is wanted, one too many is better than none.
        if wanted[split] and not images and len(left) > 1:
            smallest = min(left, key=len)
            left.remove(smallest)
            images += smallest
    return chosen


def _wanted(images: int, val: float, test: float) -> dict[str, int]:
    wanted = {
        split: max(int(images * share + 0.5), int(images >= 3)) if share else 0
        for split, share in (("val", val), ("test", test))
    }
    while sum(wanted.values()) >= images:
        wanted[max(wanted, key=lambda split: wanted[split])] -= 1
    return wanted
