from dataclasses import replace
from pathlib import Path

import pytest
import torch

from megavit.config.presets import preset
from megavit.config.recipe import DataRecipe, ModelRecipe, Recipe, RunRecipe
from megavit.config.recipes import get_recipe
from megavit.config.serialization import merge
from megavit.data.dataset import LabeledImages, Sample
from megavit.errors import ConfigError
from megavit.training.loop.build import compute_preprocessing, make_model_config
from megavit.training.setup import sizes
from megavit.training.setup.sizes import (
    choose_batch_size,
    choose_channels,
    choose_recipe,
    fill_in_batch,
    list_candidates,
    resolve_sizes,
)

CPU = torch.device("cpu")


def images(height: int, width: int, *, gray: bool = False, count: int = 40) -> LabeledImages:
    samples = tuple(
        Sample(f"{i}.png", i % 2, "train", height, width, 1 if gray else 3, f"{i:016x}") for i in range(count)
    )
    return LabeledImages("data", Path("data"), ("cat", "dog"), samples, (), "all of it")


@pytest.mark.parametrize(
    ("side", "preset", "size", "patch"),
    [
        (8, "pico", 8, 2),
        (9, "pico", 8, 2),
        (28, "nano", 28, 4),
        (32, "nano", 32, 4),
        (48, "hybrid-nano", 48, 8),
        (500, "hybrid-nano", 48, 8),
    ],
)
def test_the_model_follows_the_images(side, preset, size, patch):
    chosen = resolve_sizes(Recipe(), images(side, 2 * side), CPU).model
    assert (chosen.preset, chosen.image_size, chosen.patch_size) == (preset, size, patch)


def test_a_gpu_makes_a_larger_model(monkeypatch):
    monkeypatch.setattr("megavit.training.setup.memory.total_memory", lambda device: 80 * 10**9)
    assert resolve_sizes(Recipe(), images(300, 300), torch.device("cuda")).model.preset == "S"


def test_one_channel_only_where_every_image_is_gray():
    gray = images(28, 28, gray=True)
    assert resolve_sizes(Recipe(), gray, CPU).model.channels == 1
    one_in_color = replace(gray, samples=(replace(gray.samples[0], channels=3), *gray.samples[1:]))
    assert resolve_sizes(Recipe(), one_in_color, CPU).model.channels == 3


def test_what_the_user_chose_stays():
    mine = Recipe(model=ModelRecipe(preset="Ti", image_size=32, patch_size=8, channels=3), run=RunRecipe(batch_size=16))
    resolved = resolve_sizes(mine, images(28, 28, gray=True), CPU)
    assert resolved.model == mine.model and resolved.run == replace(mine.run, gradient_accumulation=1)


@pytest.mark.parametrize(
    ("count", "batch"), [(10, 10), (90, 16), (255, 16), (256, 32), (1000, 64), (19_999, 64), (20_000, 128)]
)
def test_of_few_images_a_batch_is_an_eighth_at_most(count, batch):
    assert choose_batch_size(count) == max(16, batch)
    if count < 1000:
        assert resolve_sizes(Recipe(), images(28, 28, count=count), CPU).run.batch_size == batch


def test_a_step_is_in_as_many_parts_as_the_user_chose_and_has_images():
    for parts, filled in ((None, 1), (3, 3), (1000, 16)):
        mine = Recipe(run=RunRecipe(batch_size=16, gradient_accumulation=parts))
        assert resolve_sizes(mine, images(28, 28, count=100), CPU).run.gradient_accumulation == filled


def test_a_batch_that_the_user_chose_is_kept_but_for_the_number_of_images():
    mine = Recipe(run=RunRecipe(batch_size=100))
    assert [resolve_sizes(mine, images(28, 28, count=n), CPU).run.batch_size for n in (99, 101)] == [99, 100]


@pytest.mark.parametrize(("count", "chosen"), [(60_000, None), (1000, None), (90, None), (100, 128), (2, None)])
@pytest.mark.parametrize("places", [1, 2, 3, 5, 7])
def test_an_automatic_batch_divides_by_the_number_of_processes(count, chosen, places):
    config = preset("pico", num_classes=2)
    run = fill_in_batch(RunRecipe(batch_size=chosen), config, count, CPU, places)
    alone = fill_in_batch(RunRecipe(batch_size=chosen), config, count, CPU)
    assert run.batch_size is not None and alone.batch_size is not None
    assert alone.batch_size - places < run.batch_size <= alone.batch_size
    if alone.batch_size >= places:
        assert run.batch_size % places == 0


def test_a_batch_that_the_user_chose_is_not_changed_for_the_number_of_processes():
    run = fill_in_batch(RunRecipe(batch_size=100), preset("pico", num_classes=2), 1000, CPU, 3)
    assert run.batch_size == 100


def test_small_gray_images_are_not_mirrored_and_photographs_are():
    assert choose_recipe(images(28, 28, gray=True)) == "small"
    assert choose_recipe(images(300, 300)) == "photos"
    assert not get_recipe("small").augment.flip and get_recipe("photos").augment.flip


@pytest.mark.parametrize(("side", "gray"), [(28, False), (300, True)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_other_small_or_gray_images_are_photographs_if_they_can_be_mirrored(monkeypatch, side, gray, symmetric):
    monkeypatch.setattr(sizes, "can_mirror", lambda dataset: symmetric)
    assert choose_recipe(images(side, side, gray=gray)) == ("photos" if symmetric else "small")


def test_the_model_and_its_input_agree():
    gray = images(28, 28, gray=True)
    config = make_model_config(resolve_sizes(Recipe(), gray, CPU), gray)
    size = compute_preprocessing(config, gray)
    assert (config.image_hw, config.channels) == ((size.height, size.width), size.channels) == ((28, 28), 1)
    assert config.num_classes == 2 and config.design.block == "parallel"


def test_sizes_that_do_not_fit_are_refused_before_anything_is_trained():
    wrong = Recipe(model=ModelRecipe(preset="nano", image_size=30, patch_size=4))
    with pytest.raises(ConfigError, match="28 or 32"):
        resolve_sizes(wrong, images(28, 28), CPU)


def of_channels(*channels: int) -> LabeledImages:
    base = images(28, 28, count=len(channels))
    samples = tuple(replace(sample, channels=number) for sample, number in zip(base.samples, channels, strict=True))
    return replace(base, samples=samples)


def test_channels_are_the_images_own():
    assert choose_channels(of_channels(5, 5), None) == 5
    assert choose_channels(of_channels(2, 2), None) == 2
    assert choose_channels(of_channels(1, 4), None) == 3
    assert choose_channels(of_channels(4, 4), None) == 3
    assert choose_channels(of_channels(4, 4), 4) == 4
    assert choose_channels(of_channels(1, 3, 4), 1) == 1


@pytest.mark.parametrize(("have", "chosen"), [((5, 5), 3), ((3, 3), 5), ((3, 4), 4)])
def test_channels_that_the_images_cannot_have_are_refused(have, chosen):
    with pytest.raises(ConfigError, match=rf"model.channels is {chosen}, but there are images with {have[0]} channels"):
        choose_channels(of_channels(*have), chosen)


def test_with_shapes_kept_the_square_has_the_area_of_the_images() -> None:
    wide = images(24, 96)
    small = replace(get_recipe("small"), model=ModelRecipe(preset="micro"))
    assert resolve_sizes(small, wide, CPU).model.image_size == 24
    kept = resolve_sizes(replace(small, data=DataRecipe(keep_aspect=True)), wide, CPU)
    assert kept.model.image_size == 48
    preprocessing = compute_preprocessing(make_model_config(kept, wide), wide, keep_aspect=True)
    assert preprocessing.size_for(24, 96) == (24, 96)


@pytest.mark.parametrize(
    ("side", "sizes"),
    [
        (32, [("hybrid-nano", 32), ("hybrid-micro", 32), ("hybrid-mini", 32), ("Ti", 32), ("S", 32)]),
        (
            60,
            [("hybrid-nano", 32), ("hybrid-nano", 48), ("hybrid-nano", 64), ("hybrid-micro", 64), ("hybrid-mini", 64)],
        ),
    ],
)
def test_no_candidate_is_listed_twice(side: int, sizes: list[tuple[str, int]]) -> None:
    recipe = merge(get_recipe("photos"), {"run": {"minutes": 1}}, "the recipe")
    listed = [candidate.recipe.model for candidate in list_candidates(recipe, images(side, side), CPU)]
    assert [(model.preset, model.image_size) for model in listed][: len(sizes)] == sizes
