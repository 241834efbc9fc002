"""Which model to train in the minutes there are: the largest that still learns its fill."""

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
# So many steps, and passes over the images, the second model needs before the first stops being better, and each next
# one twice as many; past MANY_STEPS the passes do not matter. Measured on Fashion-MNIST with equal time: nano with
# patches of 4 is level with patches of 7 at 1,500 steps, 3.5 passes, and micro with nano at 3,000 steps, 7 passes
# (`benchmarks/results/learning/ablate.json`).
LEAST_STEPS, LEAST_PASSES, MANY_STEPS = 1_500, 3.5, 20_000
# A larger model computes more in the same time, but seldom so many times more.
LARGER_IS_FASTER = 2.0
# Measuring takes at most this share of the time, or so many seconds where that is more.
MEASURING_SHARE, MEASURING_SECONDS = 0.03, 2.0

StepTime = Callable[[Recipe, float], tuple[Precision, float]]
"""Maps a recipe and the seconds for measuring to its faster precision, and the seconds of a step."""


@dataclass(frozen=True)
class Candidate:
    """A recipe with every size filled in, and the multiplications of one of its steps, in any unit."""

    recipe: Recipe
    work: float


@dataclass(frozen=True)
class Choice:
    """The recipe with its precision, the seconds of a step, and why it was chosen, in a line."""

    recipe: Recipe
    step: float
    reason: str


def choose(
    candidates: Sequence[Candidate],
    step_time: StepTime,
    images: int,
    until: float,
    total: float,
    clock: Callable[[], float],
) -> Choice:
    """The largest of the candidates that gets enough steps and passes, else the smallest.

    Args:
        candidates: at least one, the smallest first.
        step_time: measures.
        images: to train on.
        until: the time of `clock` until which there is time to train.
        total: seconds of the whole run.
        clock: seconds; for several processes that choose together the same.
    """
    enough = clock() + max(MEASURING_SHARE * total, MEASURING_SECONDS)
    chosen, step, work, too_large = candidates[0].recipe, 0.0, 0.0, ""
    for place, candidate in enumerate(candidates):
        name, batch = name_of(candidate.recipe), candidate.recipe.run.batch_size or 1
        if place:
            expected = step * candidate.work / work / LARGER_IS_FASTER
            if not is_enough(place, steps_in(until - clock(), expected), batch, images):
                too_large = f"; {name} would get too few steps"
                break
        share = (enough - clock()) / (len(candidates) - place)
        precision, seconds = step_time(candidate.recipe, share)
        steps = steps_in(until - clock(), seconds)
        if place and not is_enough(place, steps, batch, images):
            too_large = f"; {name} would get {steps:,} steps, too few"
            break
        chosen = replace(candidate.recipe, run=replace(candidate.recipe.run, precision=precision))
        step, work = seconds, candidate.work
    left = until - clock()
    batch, steps = chosen.run.batch_size or 1, steps_in(left, step)
    minutes = max(0.0, left) / 60
    reason = (
        f"{name_of(chosen)}: {step:.2g} s a step, {steps:,} steps of {batch} images, "
        f"{steps * batch / images:.3g} passes in the {minutes:.1f} minutes left{too_large}"
    )
    return Choice(chosen, step, reason)


def name_of(recipe: Recipe) -> str:
    return f"{recipe.model.preset} with patches of {recipe.model.patch_size}"


def steps_in(left: float, seconds: float) -> int:
    return max(0, int(left / seconds))


def is_enough(place: int, steps: int, batch: int, images: int) -> bool:
    """Whether so many steps are for the candidate at `place`, from 1 on."""
    more = 2 ** (place - 1)
    return steps >= MANY_STEPS or (steps >= LEAST_STEPS * more and steps * batch >= LEAST_PASSES * more * images)
