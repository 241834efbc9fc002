"""Steps are not run: the test says how long they take, on a clock of its own."""

import pytest

from megavit.config.recipe import ModelRecipe, Recipe, RunRecipe
from megavit.training.budget.model_selection import Candidate, Deadline, choose_model

TOTAL = 600.0


@pytest.fixture
def clock():
    return [1000.0]


def candidate(preset: str, work: float, min_steps: int = 0, min_epochs: float = 0) -> Candidate:
    recipe = Recipe(model=ModelRecipe(preset=preset, patch_size=4, image_size=28), run=RunRecipe(batch_size=128))
    return Candidate(recipe, work, min_steps, min_epochs)


CANDIDATES = [candidate("nano", 1), candidate("micro", 4, 1_500, 3.5), candidate("mini", 12, 3_000, 7)]


def chosen(clock, seconds_of, images=10_000, measuring=0.0):
    measured = []

    def measure_step(recipe, enough):
        measured.append((recipe.model.preset, enough))
        clock[0] += measuring
        return "bfloat16", seconds_of[recipe.model.preset]

    choice = choose_model(CANDIDATES, measure_step, images, Deadline(clock[0] + TOTAL, TOTAL, lambda: clock[0]))
    return choice, measured


@pytest.mark.parametrize(
    ("seconds_of", "expected"),
    [
        ({"nano": 0.01, "micro": 0.03, "mini": 0.1}, "mini"),
        ({"nano": 0.01, "micro": 0.1, "mini": 0.5}, "micro"),
        ({"nano": 0.1, "micro": 0.5, "mini": 2.0}, "nano"),
        ({"nano": 60.0, "micro": 0.01, "mini": 0.01}, "nano"),
    ],
)
def test_the_largest_model_that_gets_its_fill_is_taken_else_the_smallest(clock, seconds_of, expected):
    choice, _ = chosen(clock, seconds_of)
    assert choice.recipe.model.preset == expected and choice.recipe.run.precision == "bfloat16"
    assert choice.step_seconds == seconds_of[expected]


def test_more_images_ask_for_more_steps_up_to_a_point(clock):
    seconds_of = {"nano": 0.01, "micro": 0.1, "mini": 0.5}  # micro: 6,000 steps, 768,000 images
    assert chosen(clock, seconds_of, images=90_000)[0].recipe.model.preset == "micro"
    assert chosen(clock, seconds_of, images=300_000)[0].recipe.model.preset == "nano"
    assert chosen(clock, {"nano": 0.01, "micro": 0.02, "mini": 0.5}, images=10**8)[0].recipe.model.preset == "micro"


def test_the_reason_says_in_a_line_what_the_model_gets_and_why_no_larger_one(clock):
    reason = chosen(clock, {"nano": 0.0125, "micro": 0.05, "mini": 0.5}, images=60_000)[0].reason
    assert reason == (
        "micro with patch size 4 for 28 pixels: 0.05 s per step, 12,000 steps of 128 images, 25.6 epochs in the 10.0 "
        "minutes left; "
        "mini with patch size 4 for 28 pixels would get 1,200 steps, too few"
    )


def test_a_model_far_too_large_is_not_even_measured(clock):
    choice, measured = chosen(clock, {"nano": 0.5, "micro": 0.0, "mini": 0.0})
    assert [name for name, _ in measured] == ["nano"]
    assert choice.reason.endswith("micro with patch size 4 for 28 pixels would get too few steps")


def test_measuring_has_its_share_of_the_time(clock):
    _, measured = chosen(clock, {"nano": 0.01, "micro": 0.02, "mini": 0.03}, measuring=4.0)
    assert [round(enough, 3) for _, enough in measured] == [6.0, 7.0, 10.0]  # 18 s in all, what is left each time


def test_without_any_time_the_smallest_is_taken(clock):
    deadline = Deadline(clock[0] - 5, TOTAL, lambda: clock[0])
    choice = choose_model(CANDIDATES, lambda recipe, enough: ("float32", 0.1), 100, deadline)
    assert choice.recipe.model.preset == "nano" and "0 steps" in choice.reason and "0.0 minutes" in choice.reason
