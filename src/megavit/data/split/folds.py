"""Split images for a cross-validation: each is a test image of one fold, and in training or validation of the others.

The validation images of a fold come from the folds after it, so that two models have not been trained on them: that of
the fold whose test images they are, and this one. Where these two are averaged, the gain of an ensemble is measured.
"""

from collections import Counter
from collections.abc import Sequence

from megavit.config.recipe import DataRecipe
from megavit.data.split.draw import choose_groups, draw_groups, return_to_train


def assign_folds(labels: Sequence[str], digests: Sequence[str], folds: int, seed: int) -> list[int]:
    """Return the fold of each image, 1 to `folds`, drawn within its class, with equal digests in the same fold.

    The images of a class are spread evenly, and so are all images. A class whose images are all identical is in no
    fold (0): it is always trained on.
    """
    numbers = range(1, folds + 1)
    assigned = [0] * len(labels)
    total: Counter[int] = Counter()
    for _, groups in sorted(draw_groups(labels, digests, seed).items()):
        if len(groups) == 1:
            continue
        own: Counter[int] = Counter()
        for group in sorted(groups, key=len, reverse=True):
            fold = min(numbers, key=lambda number: (own[number], total[number], number))
            own[fold] += len(group)
            total[fold] += len(group)
            for index in group:
                assigned[index] = fold
    return assigned


def split_for_fold(labels: Sequence[str], digests: Sequence[str], recipe: DataRecipe, val: float) -> list[str]:
    """Return the split of each image for `recipe.fold` of `recipe.folds`: test if it is in the fold.

    The share `val` of the other images of each class is for validation, those of the next fold first.
    """
    count, number = recipe.folds or 1, recipe.fold or 1
    folds = assign_folds(labels, digests, count, recipe.seed)
    splits = ["test" if fold == number else "train" for fold in folds]
    for groups in draw_groups(labels, digests, recipe.seed).values():
        others = [group for group in groups if folds[group[0]] not in (0, number)]
        others.sort(key=lambda group: (folds[group[0]] - number) % count)
        for index in choose_groups(others, val, 0.0)["val"]:
            splits[index] = "val"
    return_to_train(splits, labels, digests, recipe.seed)
    return splits
