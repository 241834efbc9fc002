"""What a run makes of its images' targets: scale of the scores, settings that do not fit them, remedy for imbalance."""

import statistics
from dataclasses import replace
from typing import Any

from megavit.config.recipe import Balance, Recipe
from megavit.config.target import Target
from megavit.data.dataset import LabeledImages
from megavit.data.targets import target_tensor
from megavit.errors import ConfigError, DataError
from megavit.train.progress import Reporter

UNEVEN = 10.0
"""How many times the smallest class the largest one must be for a remedy by itself."""


def target_of(images: LabeledImages) -> Target:
    """The target of the training images; thresholds are chosen after training.

    Raises:
        DataError: when all training scores are equal.
    """
    if images.target != "regression":
        return Target(kind=images.target)
    scores = target_tensor(images.in_split("train"), "regression", 0).double()
    std = scores.std(correction=0).item()
    if not std > 0:
        raise DataError(
            f"all {len(scores):,} training images of {images.source} have the score {scores[0].item():g}: "
            "there is nothing to learn; check the column score"
        )
    return Target(kind="regression", mean=scores.mean().item(), std=std, median=statistics.median(scores.tolist()))


def fit_to_target(recipe: Recipe, changes: dict[str, Any], images: LabeledImages) -> Recipe:
    """`recipe` without what is not meant for the images' kind of target.

    Label smoothing is for classes. Mixup and CutMix of images with scores happen only where `changes` asks for
    them: half of each of two pictures need not have the mean of their scores.

    Raises:
        ConfigError: when `changes` asks for what cannot be.
    """
    if images.target == "classification":
        return recipe
    what = "several labels" if images.target == "multilabel" else "a score"
    if changes.get("optimizer", {}).get("label_smoothing"):
        raise ConfigError(f"label_smoothing is for images of one class; these have {what}: leave it out")
    allowed = ("auto", "none", "loss") if images.target == "multilabel" else ("auto", "none")
    if recipe.data.balance not in allowed:
        raise ConfigError(
            f"balance = {recipe.data.balance} is for images of one class; these have {what}: "
            f"choose {' or '.join(allowed[1:])}"
        )
    optimizer = replace(recipe.optimizer, label_smoothing=0.0)
    augment = recipe.augment
    if images.target == "regression":
        asked = changes.get("augment", {})
        augment = replace(
            augment,
            mixup=augment.mixup if "mixup" in asked else 0.0,
            cutmix=augment.cutmix if "cutmix" in asked else 0.0,
        )
    return replace(recipe, optimizer=optimizer, augment=augment)


def settle_balance(recipe: Recipe, images: LabeledImages, watch: Reporter) -> Recipe:
    """`recipe` with "auto" balance decided: a remedy where the largest class is many times the smallest one."""
    if recipe.data.balance != "auto":
        return recipe
    balance: Balance = "none"
    counts = {name: count for name, count in images.class_counts()["train"].items() if count}
    if images.target == "classification" and counts:
        large, small = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        if counts[large] > UNEVEN * counts[small]:
            balance = "logits"
            watch.say(
                f"classes are uneven, {counts[large]:,} images of {large} and {counts[small]:,} of {small}: training "
                "makes up for it, so that small ones are found as well; --balance none would not"
            )
    return replace(recipe, data=replace(recipe.data, balance=balance))
