"""What a run makes of its targets before it starts."""

import pytest

from megavit.config.recipe import AugmentRecipe, DataRecipe, Recipe
from megavit.config.target import TargetKind
from megavit.data.dataset import LabeledImages, Sample, TargetValue
from megavit.errors import ConfigError, DataError
from megavit.train.progress import NullReporter
from megavit.train.setup.targets import UNEVEN, fit_to_target, settle_balance, target_of


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
    target = target_of(SCORES)
    assert (target.kind, target.mean, target.median) == ("regression", 4.0, 3.0)
    assert target.std == pytest.approx((26 / 3) ** 0.5)


def test_equal_scores_are_refused_before_training():
    with pytest.raises(DataError, match=r"all 2 training images of x\.csv have the score 2"):
        target_of(images("regression", [2.0, 2.0]))


def test_what_is_for_classes_is_left_out_for_other_targets():
    recipe = Recipe(augment=AugmentRecipe(mixup=0.2, cutmix=1.0))
    assert fit_to_target(recipe, {}, CLASSES) == recipe
    labels, score = fit_to_target(recipe, {}, LABELS), fit_to_target(recipe, {}, SCORES)
    assert labels.optimizer.label_smoothing == score.optimizer.label_smoothing == 0
    assert (labels.augment.mixup, labels.augment.cutmix) == (0.2, 1.0)
    assert (score.augment.mixup, score.augment.cutmix) == (0, 0)
    asked = fit_to_target(recipe, {"augment": {"mixup": 0.2}}, SCORES)
    assert (asked.augment.mixup, asked.augment.cutmix) == (0.2, 0)


@pytest.mark.parametrize(("data", "balance"), [(LABELS, "sampler"), (LABELS, "logits"), (SCORES, "loss")])
def test_a_remedy_for_classes_is_refused_for_other_targets(data, balance):
    with pytest.raises(ConfigError, match=f"balance = {balance} is for images of one class"):
        fit_to_target(Recipe(data=DataRecipe(balance=balance)), {}, data)


def test_smoothing_asked_for_is_refused_not_dropped():
    with pytest.raises(ConfigError, match="label_smoothing is for images of one class"):
        fit_to_target(Recipe(), {"optimizer": {"label_smoothing": 0.1}}, LABELS)


@pytest.mark.parametrize(("large", "balance"), [(int(2 * UNEVEN), "none"), (int(2 * UNEVEN) + 1, "logits")])
def test_uneven_classes_get_a_remedy_and_the_user_is_told(large, balance):
    watch = Heard()
    settled = settle_balance(Recipe(), images("classification", [0] * large + [1, 1]), watch)
    assert settled.data.balance == balance
    assert len(watch.said) == (balance != "none")
    assert all(f"{large} images of a and 2 of b" in said and "--balance none" in said for said in watch.said)


def test_a_remedy_that_was_asked_for_stays():
    wanted = Recipe(data=DataRecipe(balance="sampler"))
    assert settle_balance(wanted, images("classification", [*[0] * 99, 1]), NullReporter()) == wanted
    assert settle_balance(Recipe(), LABELS, NullReporter()).data.balance == "none"
