"""What a run makes of its targets before it starts."""

from dataclasses import replace

import pytest

from megavit.config.recipe import AugmentRecipe, DataRecipe, Recipe
from megavit.config.target import TargetKind
from megavit.data.dataset import LabeledImages, Sample, TargetValue
from megavit.errors import ConfigError, DataError
from megavit.training.progress import NullReporter
from megavit.training.setup.targets import (
    IMBALANCE,
    MIN_CUTMIX_EPOCHS,
    check_mixing,
    resolve_balance,
    resolve_cutmix,
    resolve_mixing,
    resolve_target,
)
from megavit.training.task import make_target


def images(kind: TargetKind, targets: list[TargetValue]) -> LabeledImages:
    samples = tuple(Sample(f"{i}", target, "train", 4, 4, 1, f"{i}") for i, target in enumerate(targets))
    return LabeledImages("x.csv", None, () if kind == "regression" else ("a", "b"), samples, (), "", target=kind)


class Heard(NullReporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


CLASSES, LABELS, SCORES = (
    images("classification", [0, 1]),
    images("multilabel", [(0,), ()]),
    images("regression", [1.0, 3.0, 8.0]),
)


def test_scores_bring_their_scale():
    target = make_target(SCORES)
    assert (target.kind, target.mean, target.median) == ("regression", 4.0, 3.0)
    assert target.std == pytest.approx((26 / 3) ** 0.5)


def test_equal_scores_are_refused_before_training():
    with pytest.raises(DataError, match=r"all 2 training images of x\.csv have the score 2"):
        make_target(images("regression", [2.0, 2.0]))


def test_what_is_for_classes_is_left_out_for_other_targets():
    recipe = Recipe(augment=AugmentRecipe(mixup=0.2, cutmix=1.0))
    assert resolve_target(recipe, {}, CLASSES) == recipe
    labels, score = resolve_target(recipe, {}, LABELS), resolve_target(recipe, {}, SCORES)
    assert labels.optimizer.label_smoothing == score.optimizer.label_smoothing == 0
    assert (labels.augment.mixup, labels.augment.cutmix) == (0.2, 1.0)
    assert (score.augment.mixup, score.augment.cutmix) == (0, 0)
    asked = resolve_target(recipe, {"augment": {"mixup": 0.2}}, SCORES)
    assert (asked.augment.mixup, asked.augment.cutmix) == (0.2, 0)


@pytest.mark.parametrize(("data", "balance"), [(LABELS, "sampler"), (LABELS, "logits"), (SCORES, "loss")])
def test_a_remedy_for_classes_is_refused_for_other_targets(data, balance):
    with pytest.raises(ConfigError, match=f"balance = {balance} is for images with one class"):
        resolve_target(Recipe(data=DataRecipe(balance=balance)), {}, data)


def test_smoothing_asked_for_is_refused_not_dropped():
    with pytest.raises(ConfigError, match="label_smoothing is for images with one class"):
        resolve_target(Recipe(), {"optimizer": {"label_smoothing": 0.1}}, LABELS)


@pytest.mark.parametrize(("large", "balance"), [(int(2 * IMBALANCE), "none"), (int(2 * IMBALANCE) + 1, "logits")])
def test_uneven_classes_get_a_remedy_and_the_user_is_told(large, balance):
    watch = Heard()
    settled = resolve_balance(Recipe(), images("classification", [0] * large + [1, 1]), watch)
    assert settled.data.balance == balance
    assert len(watch.said) == (balance != "none")
    assert all(f"{large} images of a and 2 of b" in said and "--balance none" in said for said in watch.said)


def test_a_remedy_that_was_asked_for_stays():
    wanted = Recipe(data=DataRecipe(balance="sampler"))
    assert resolve_balance(wanted, images("classification", [*[0] * 99, 1]), NullReporter()) == wanted
    assert resolve_balance(Recipe(), LABELS, NullReporter()).data.balance == "none"


KEPT = Recipe(data=DataRecipe(keep_aspect=True), augment=AugmentRecipe(crop=0.5, mixup=0.2, cutmix=1.0))


def test_images_that_keep_their_shape_are_not_mixed_and_the_watch_says_so() -> None:
    watch = Heard()
    assert resolve_mixing(KEPT, watch).augment == AugmentRecipe(crop=0.5)
    assert len(watch.said) == 1 and "mixup and CutMix are turned off" in watch.said[0]
    squashed = replace(KEPT, data=DataRecipe())
    assert resolve_mixing(squashed, watch) is squashed
    plain = replace(KEPT, augment=AugmentRecipe(crop=0.5))
    assert resolve_mixing(plain, watch) is plain
    assert len(watch.said) == 1


def test_mixing_that_was_asked_for_is_refused_where_shapes_are_kept() -> None:
    with pytest.raises(ConfigError, match="which mixup and cutmix cannot mix"):
        check_mixing(KEPT, {"augment": {"mixup": 0.1, "cutmix": 1.0}})
    check_mixing(KEPT, {"augment": {"mixup": 0.0}, "data": {"keep_aspect": True}})
    check_mixing(replace(KEPT, data=DataRecipe()), {"augment": {"mixup": 0.1}})


def test_short_runs_do_without_cutmix_unless_it_is_asked_for() -> None:
    recipe = Recipe(augment=AugmentRecipe(crop=0.5, cutmix=1.0))
    assert resolve_cutmix(recipe, {}, MIN_CUTMIX_EPOCHS - 0.1).augment == AugmentRecipe(crop=0.5)
    assert resolve_cutmix(recipe, {}, MIN_CUTMIX_EPOCHS) is recipe
    assert resolve_cutmix(recipe, {"augment": {"cutmix": 1.0}}, 1) is recipe
