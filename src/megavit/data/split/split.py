"""Split images for training, validation and test: stratified, seeded, with identical files together."""

from collections.abc import Sequence

from megavit.config.recipe import DataRecipe
from megavit.config.target import TargetKind
from megavit.data.split.draw import choose_groups, draw_groups, return_to_train
from megavit.data.split.folds import split_for_fold
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
    splits = ["train"] * len(labels)
    for groups in draw_groups(labels, digests, seed).values():
        for split, drawn in choose_groups(groups, val, test).items():
            for index in drawn:
                splits[index] = split
    return_to_train(splits, labels, digests, seed)
    return splits


def complete_splits(
    defined: Sequence[str | None],
    groups: Sequence[str],
    digests: Sequence[str],
    recipe: DataRecipe,
    target: TargetKind = "classification",
) -> tuple[list[str], str]:
    """Return the split of each image, drawn from the training images if missing, and a sentence on the splits.

    With `recipe.fold`, the test images are those of this fold; the data must define none.

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
    pool_groups, pool_digests = [groups[index] for index in pool], [digests[index] for index in pool]
    val = shares.get("val", 0.0)
    if recipe.fold is None:
        drawn = assign_splits(pool_groups, pool_digests, val, shares.get("test", 0.0), recipe.seed)
    else:
        drawn = split_for_fold(pool_groups, pool_digests, recipe, val)
    for index, split in zip(pool, drawn, strict=True):
        splits[index] = split
    defined_text = f"{', '.join(present)} as defined by the data" if present else ""
    if recipe.fold is not None:
        rest = f", and {val:.3g} of the rest for val" if val else ""
        drawn_text = (
            f"of {SPLIT_POPULATION[target]}, fold {recipe.fold} of {recipe.folds} for test{rest}, "
            f"drawn with seed {recipe.seed}"
        )
        return splits, "; ".join(filter(None, (defined_text, drawn_text)))
    amounts = " and ".join(f"{share:.3g} for {split}" for split, share in shares.items())
    drawn_text = f"of {SPLIT_POPULATION[target]}, {amounts}, drawn with seed {recipe.seed}" if shares else ""
    return splits, "; ".join(filter(None, (defined_text, drawn_text))) or "all images are for training"
