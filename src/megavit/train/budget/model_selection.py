"""Which model to train in a time budget: the largest that still gets enough steps."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from megavit.config.recipe import Precision, Recipe

# Up to so many pixels on the images' short side: (preset, patch size), the smallest model first.
CANDIDATES = (
    (16, (("pico", 2),)),
    (28, (("nano", 7), ("nano", 4), ("micro", 4), ("mini", 4))),
    (40, (("nano", 8), ("nano", 4), ("micro", 4), ("mini", 4))),
    (math.inf, (("micro", 8), ("mini", 16), ("Ti", 16), ("S", 16))),
)
# So many steps, and epochs, the second model needs before the first stops being better, and each next one twice as
# many; past MANY_STEPS the epochs do not matter. Measured on Fashion-MNIST with equal time: nano with patches of 4 is
# level with patches of 7 at 1,500 steps, 3.5 epochs, and micro with nano at 3,000 steps, 7 epochs
# (`benchmarks/results/learning/ablate.json`).
MIN_STEPS, MIN_EPOCHS, MANY_STEPS = 1_500, 3.5, 20_000
# A larger model computes more in the same time, but seldom so many times more.
LARGER_IS_FASTER = 2.0
# Measuring takes at most this share of the time, or so many seconds where that is more.
MEASURING_SHARE, MEASURING_SECONDS = 0.03, 2.0

MeasureStep = Callable[[Recipe, float], tuple[Precision, float]]
"""Maps a recipe and the seconds for measuring to its faster precision, and the seconds of a step."""


@dataclass(frozen=True)
class Candidate:
    """A recipe with every size filled in, and the multiplications of one of its steps, in any unit."""

    recipe: Recipe
    work: float


@dataclass(frozen=True)
class Deadline:
    """Until when there is time to train.

    Attributes:
        until: the time of `now` at which training must end.
        total: seconds of the whole run.
        now: seconds; for several processes that choose together the same.
    """

    until: float
    total: float
    now: Callable[[], float]

    @property
    def seconds_left(self) -> float:
        return self.until - self.now()


@dataclass(frozen=True)
class ModelChoice:
    """The recipe with its precision, the seconds of a step, and why it was chosen, in a line."""

    recipe: Recipe
    step_seconds: float
    reason: str


def choose_model(
    candidates: Sequence[Candidate], measure_step: MeasureStep, num_images: int, deadline: Deadline
) -> ModelChoice:
    """Return the largest of the candidates that gets enough steps and epochs, else the smallest.

    Args:
        candidates: at least one, the smallest first.
        num_images: to train on.
    """
    measured_by = deadline.now() + max(MEASURING_SHARE * deadline.total, MEASURING_SECONDS)
    chosen, step_seconds, work, too_large = candidates[0].recipe, 0.0, 0.0, ""
    for index, candidate in enumerate(candidates):
        name, batch_size = _describe(candidate.recipe), candidate.recipe.run.batch_size or 1
        if index:
            expected = step_seconds * candidate.work / work / LARGER_IS_FASTER
            if not _is_enough(index, _count_steps(deadline.seconds_left, expected), batch_size, num_images):
                too_large = f"; {name} would get too few steps"
                break
        share = (measured_by - deadline.now()) / (len(candidates) - index)
        precision, seconds = measure_step(candidate.recipe, share)
        steps = _count_steps(deadline.seconds_left, seconds)
        if index and not _is_enough(index, steps, batch_size, num_images):
            too_large = f"; {name} would get {steps:,} steps, too few"
            break
        chosen = replace(candidate.recipe, run=replace(candidate.recipe.run, precision=precision))
        step_seconds, work = seconds, candidate.work
    seconds_left = deadline.seconds_left
    batch_size, steps = chosen.run.batch_size or 1, _count_steps(seconds_left, step_seconds)
    reason = (
        f"{_describe(chosen)}: {step_seconds:.2g} s a step, {steps:,} steps of {batch_size} images, "
        f"{steps * batch_size / num_images:.3g} epochs in the {max(0.0, seconds_left) / 60:.1f} minutes left{too_large}"
    )
    return ModelChoice(chosen, step_seconds, reason)


def _describe(recipe: Recipe) -> str:
    return f"{recipe.model.preset} with patches of {recipe.model.patch_size}"


def _count_steps(seconds_left: float, step_seconds: float) -> int:
    return max(0, int(seconds_left / step_seconds))


def _is_enough(index: int, steps: int, batch_size: int, num_images: int) -> bool:
    """Return whether so many steps are enough for the candidate at `index`, from 1 on."""
    factor = 2 ** (index - 1)
    is_long = steps >= MIN_STEPS * factor and steps * batch_size >= MIN_EPOCHS * factor * num_images
    return steps >= MANY_STEPS or is_long
