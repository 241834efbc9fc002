"""Resolve the settings that depend on the kind of target: losses, mixing, and class balance."""

from dataclasses import replace
from typing import Any

from megavit.config.recipe import SCRATCH, Balance, Recipe
from megavit.data.dataset import LabeledImages
from megavit.errors import ConfigError
from megavit.runtime.process_group import DistContext
from megavit.training.progress import Reporter

IMBALANCE = 10.0
"""Ratio of the largest to the smallest class above which "auto" balances classes."""
NEEDS_WEIGHTS = (
    "--unlabeled needs the features of pretrained weights, but this run starts from scratch: name some with --from, a "
    "backbone or the folder of megavit pretrain, which learns features from the same images"
)
# CutMix costs accuracy in short runs and helps in long ones (docs/tried.md).
MIN_CUTMIX_EPOCHS = 40


def check_labels_used(recipe: Recipe) -> None:
    """Raise ConfigError if a training with labels has the settings of one without."""
    if recipe.pretraining is not None:
        raise ConfigError("[pretraining] is for megavit pretrain, which learns without labels: leave it out")


def check_distillation(recipe: Recipe, dist: DistContext) -> None:
    """Raise ConfigError if the settings of a run with a teacher exclude each other."""
    if recipe.distillation is None:
        return
    if recipe.model.source is not None:
        raise ConfigError(
            f"--teacher trains a model from scratch, but --from {recipe.model.source} names weights to start from: "
            "leave out one of them"
        )
    if dist.is_distributed:
        raise ConfigError("--teacher is for one process: leave out --nproc")
    if recipe.data.keep_aspect:
        raise ConfigError("--teacher is for images of one size: leave out --keep-aspect")


def check_pseudo_labels(recipe: Recipe, overrides: dict[str, Any], dist: DistContext) -> None:
    """Raise ConfigError if the settings of a run with images without labels exclude each other."""
    if recipe.pseudo_labels is None:
        return
    if recipe.distillation is not None or overrides.get("model", {}).get("pretrained") == SCRATCH:
        raise ConfigError(NEEDS_WEIGHTS)
    if recipe.data.folds is not None:
        raise ConfigError("--unlabeled is for a single run: leave out --folds")
    if dist.is_distributed:
        raise ConfigError("--unlabeled is for one process: leave out --nproc")


def check_mixing(recipe: Recipe, overrides: dict[str, Any]) -> None:
    """Raise ConfigError if `overrides` requests mixup or CutMix for images that keep their aspect ratio."""
    requested = [name for name in ("mixup", "cutmix") if overrides.get("augment", {}).get(name)]
    if recipe.data.keep_aspect and requested:
        raise ConfigError(
            f"keep_aspect gives images different sizes, which {' and '.join(requested)} cannot mix: use one or "
            "the other"
        )


def resolve_target(recipe: Recipe, overrides: dict[str, Any], dataset: LabeledImages) -> Recipe:
    """Return `recipe` without settings for other kinds of target, or raise ConfigError if `overrides` requests them.

    Label smoothing is for classification. For regression, mixup and CutMix apply only if `overrides` requests them, as
    parts of two images need not have the mean of their targets.
    """
    if dataset.target == "classification":
        return recipe
    what = "several labels" if dataset.target == "multilabel" else "a score"
    if overrides.get("optimizer", {}).get("label_smoothing"):
        raise ConfigError(f"label_smoothing is for images with one class, but these have {what}: leave it out")
    allowed = ("auto", "none", "loss") if dataset.target == "multilabel" else ("auto", "none")
    if recipe.data.balance not in allowed:
        raise ConfigError(
            f"balance = {recipe.data.balance} is for images with one class, but these have {what}: "
            f"choose {' or '.join(allowed[1:])}"
        )
    augment = recipe.augment
    if dataset.target == "regression":
        requested = overrides.get("augment", {})
        augment = replace(
            augment,
            mixup=augment.mixup if "mixup" in requested else 0.0,
            cutmix=augment.cutmix if "cutmix" in requested else 0.0,
        )
    return replace(recipe, optimizer=replace(recipe.optimizer, label_smoothing=0.0), augment=augment)


def resolve_balance(recipe: Recipe, dataset: LabeledImages, reporter: Reporter) -> Recipe:
    """Return `recipe` with "auto" balance resolved: "logits" for imbalanced classes, else "none"."""
    if recipe.data.balance != "auto":
        return recipe
    balance: Balance = "none"
    counts = {name: count for name, count in dataset.class_counts()["train"].items() if count}
    if dataset.target == "classification" and counts:
        large, small = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        if counts[large] > IMBALANCE * counts[small]:
            balance = "logits"
            reporter.say(
                f"classes are imbalanced, {counts[large]:,} images of {large} and {counts[small]:,} of {small}: "
                "logits are adjusted in training so that rare classes are found too; --balance none turns this off"
            )
    return replace(recipe, data=replace(recipe.data, balance=balance))


def resolve_mixing(recipe: Recipe, reporter: Reporter) -> Recipe:
    """Return `recipe` without mixup and CutMix if images keep their aspect ratio."""
    augment = recipe.augment
    if not recipe.data.keep_aspect or not (augment.mixup or augment.cutmix):
        return recipe
    reporter.say("images keep their aspect ratio and cannot be mixed in pairs: mixup and CutMix are turned off")
    return replace(recipe, augment=replace(augment, mixup=0.0, cutmix=0.0))


def resolve_cutmix(recipe: Recipe, overrides: dict[str, Any], epochs: float) -> Recipe:
    """Return `recipe` without CutMix if the run is too short for it, unless `overrides` requests it."""
    if "cutmix" in overrides.get("augment", {}) or epochs >= MIN_CUTMIX_EPOCHS:
        return recipe
    return replace(recipe, augment=replace(recipe.augment, cutmix=0.0))
