import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from megavit.config.recipe import AugmentRecipe, DataRecipe, RunRecipe
from megavit.config.recipes import named_recipe
from megavit.data.samples import LabelledImages, Sample
from megavit.errors import DataError
from megavit.train.prepare import fresh, noise
from megavit.train.resolve import resolve
from megavit.train.timing import choose_by_time
from megavit.train.watch import Silent

CPU = torch.device("cpu")


def images_that_are_gone(channels: int, folder: Path) -> LabelledImages:
    samples = tuple(Sample(f"{i}.npy", i % 2, "train", 8, 8, channels, f"{i:016x}") for i in range(32))
    return LabelledImages("data", folder, ("dry", "wet"), samples, (), "all of it")


def test_the_model_is_chosen_without_reading_an_image(tmp_path):
    images = images_that_are_gone(5, tmp_path)
    recipe = named_recipe("small")
    recipe = replace(recipe, run=replace(recipe.run, minutes=0.1))
    choice = choose_by_time(recipe, images, CPU, time.monotonic(), Silent())
    assert choice.recipe.model.channels == 5 and choice.step > 0


def test_the_mean_and_spread_of_many_channels_are_found_by_reading_images(tmp_path):
    images = images_that_are_gone(5, tmp_path)
    with pytest.raises(DataError, match="cannot any more"):
        fresh(resolve(named_recipe("small"), images, CPU), images, CPU)


def test_the_noise_that_is_measured_on_has_the_shapes_of_the_images(tmp_path):
    samples = tuple(
        Sample(f"{i:02}.npy", i % 2, "train", *((8, 32) if i < 16 else (40, 10)), 1, f"{i:016x}") for i in range(32)
    )
    images = LabelledImages("data", tmp_path, ("dry", "wet"), samples, (), "all of it")
    recipe = replace(named_recipe("small"), data=DataRecipe(keep_aspect=True), augment=AugmentRecipe(crop=0.5))
    choice = choose_by_time(replace(recipe, run=RunRecipe(minutes=0.1)), images, CPU, time.monotonic(), Silent())
    assert choice.step > 0
    _, task = fresh(choice.recipe, images, CPU)
    assert task.preprocessing.keep_aspect
    pixels = noise(images, task)
    assert isinstance(pixels, list) and len(pixels) == task.batch_size
    assert [task.preprocessing.size_for(*sides) for sides in ((8, 32), (40, 10))] == [(4, 16), (16, 4)]
    # Larger by the margin of a crop.
    assert {tuple(picture.shape[1:]) for picture in pixels} == {(5, 20), (20, 5)}
