"""Choose the model to train in a time budget: the largest that gets enough steps."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from megavit.config.recipe import Precision, Recipe


class Row(NamedTuple):
    """A model to choose from, and the steps and epochs that it must get to beat the smaller one before it."""

    preset: str
    patch_size: int
    image_size: int | None = None  # the preset's
    min_steps: int = 0
    min_epochs: float = 0


# Measured on Fashion-MNIST with equal time: nano with patch size 4 equals patch size 7 at 1,500 steps, 3.5 epochs, and
# micro equals nano at 3,000 steps, 7 epochs (`benchmarks/results/learning/ablate.json`); doubled for each larger model.
SMALL = (Row("nano", 4, None, 1_500, 3.5), Row("micro", 4, None, 3_000, 7), Row("mini", 4, None, 6_000, 14))
# Measured on 1,400 photographs of clothing in equal time: 32 pixels with 41 epochs and CutMix are better than 48 pixels
# with 20 epochs, for which CutMix comes too early, and these equal 64 pixels with 12. Doubled for each larger model.
PHOTOS = (
    Row("hybrid-nano", 8, 32),
    Row("hybrid-nano", 8, 48, 500, 25),
    Row("hybrid-nano", 8, 64, 1_000, 30),
    Row("hybrid-micro", 8, 64, 2_000, 60),
    Row("hybrid-micro", 8, 96, 4_000, 80),
    Row("hybrid-mini", 16, 128, 8_000, 120),
    Row("Ti", 16, 224, 16_000, 160),
    Row("S", 16, 224, 32_000, 160),
)
# Largest short side of the images in pixels, and the candidates for it, smallest first.
CANDIDATES = (
    (16, (Row("pico", 2),)),
    (28, (Row("nano", 7), *SMALL)),
    (40, (Row("nano", 8), *SMALL)),
    (math.inf, PHOTOS),
)
# From this number of steps on, epochs do not matter.
MANY_STEPS = 20_000
# Upper bound of how much more a larger model computes per second.
LARGER_IS_FASTER = 2.0
# Limit of the measuring time: the larger of a share of the budget and a number of seconds.
MEASURING_SHARE, MEASURING_SECONDS = 0.03, 2.0

MeasureStep = Callable[[Recipe, float], tuple[Precision, float]]
"""Function from a recipe and the seconds for measuring to its fastest precision and the seconds of a step."""


@dataclass(frozen=True)
class Candidate:
    """A recipe with all sizes resolved, the relative number of multiplications in a step, and the steps it must get."""

    recipe: Recipe
    work: float
    min_steps: int = 0
    min_epochs: float = 0


@dataclass(frozen=True)
class Deadline:
    """The time at which training must end, `until`, in a run of `total` seconds; `now` returns the current time."""

    until: float
    total: float
    now: Callable[[], float]

    @property
    def seconds_left(self) -> float:
        return self.until - self.now()


@dataclass(frozen=True)
class ModelChoice:
    """A chosen recipe with its precision, the seconds of a step, the expected epochs, and the reason in one line."""

    recipe: Recipe
    step_seconds: float
    epochs: float
    reason: str


def choose_model(
    candidates: Sequence[Candidate], measure_step: MeasureStep, num_images: int, deadline: Deadline
) -> ModelChoice:
    """Return the largest of the candidates, smallest first, that gets enough steps and epochs, or else the smallest."""
    measure_until = deadline.now() + max(MEASURING_SHARE * deadline.total, MEASURING_SECONDS)
    chosen, step_seconds, work, too_large = candidates[0].recipe, 0.0, 0.0, ""
    for index, candidate in enumerate(candidates):
        name = _describe(candidate.recipe)
        if index:
            expected = step_seconds * candidate.work / work / LARGER_IS_FASTER
            if not _is_enough(candidate, _count_steps(deadline.seconds_left, expected), num_images):
                too_large = f"; {name} would get too few steps"
                break
        share = (measure_until - deadline.now()) / (len(candidates) - index)
        precision, seconds = measure_step(candidate.recipe, share)
        steps = _count_steps(deadline.seconds_left, seconds)
        if index and not _is_enough(candidate, steps, num_images):
            too_large = f"; {name} would get {steps:,} steps, too few"
            break
        chosen = replace(candidate.recipe, run=replace(candidate.recipe.run, precision=precision))
        step_seconds, work = seconds, candidate.work
    seconds_left = deadline.seconds_left
    batch_size, steps = chosen.run.batch_size or 1, _count_steps(seconds_left, step_seconds)
    epochs = steps * batch_size / num_images
    reason = (
        f"{_describe(chosen)}: {step_seconds:.2g} s per step, {steps:,} steps of {batch_size} images, "
        f"{epochs:.3g} epochs in the {max(0.0, seconds_left) / 60:.1f} minutes left{too_large}"
    )
    return ModelChoice(chosen, step_seconds, epochs, reason)


def _describe(recipe: Recipe) -> str:
    model = recipe.model
    return f"{model.preset} with patch size {model.patch_size} for {model.image_size} pixels"


def _count_steps(seconds_left: float, step_seconds: float) -> int:
    return max(0, int(seconds_left / step_seconds))


def _is_enough(candidate: Candidate, steps: int, num_images: int) -> bool:
    epochs = steps * (candidate.recipe.run.batch_size or 1) / num_images
    return steps >= MANY_STEPS or (steps >= candidate.min_steps and epochs >= candidate.min_epochs)
