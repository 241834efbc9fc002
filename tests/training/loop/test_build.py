import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from megavit.config.recipe import AugmentRecipe, DataRecipe, RunRecipe
from megavit.config.recipes import get_recipe
from megavit.data.dataset import LabeledImages, Sample
from megavit.errors import DataError
from megavit.training.loop.build import build_pretrained, build_training, make_noise_images
from megavit.training.setup.resolve import select_model
from megavit.training.setup.sizes import resolve_sizes
from megavit.weights.pretrained.pretrained import load_pretrained
from tests.helpers.bundles import make_bundle
from tests.helpers.training import make_context

CPU = torch.device("cpu")


def images_that_are_gone(channels: int, folder: Path) -> LabeledImages:
    samples = tuple(Sample(f"{i}.npy", i % 2, "train", 8, 8, channels, f"{i:016x}") for i in range(32))
    return LabeledImages("data", folder, ("dry", "wet"), samples, (), "all of it")


def test_the_model_is_chosen_without_reading_an_image(tmp_path):
    images = images_that_are_gone(5, tmp_path)
    recipe = get_recipe("small")
    recipe = replace(recipe, run=replace(recipe.run, minutes=0.1))
    choice = select_model(make_context(tmp_path, images), recipe, time.monotonic() + 5, 5)
    assert choice.recipe.model.channels == 5 and choice.step_seconds > 0


def test_the_mean_and_spread_of_many_channels_are_found_by_reading_images(tmp_path):
    images = images_that_are_gone(5, tmp_path)
    with pytest.raises(DataError, match="can no longer be read"):
        build_training(make_context(tmp_path, images), resolve_sizes(get_recipe("small"), images, CPU))


def test_the_noise_that_is_measured_on_has_the_shapes_of_the_images(tmp_path):
    samples = tuple(
        Sample(f"{i:02}.npy", i % 2, "train", *((8, 32) if i < 16 else (40, 10)), 1, f"{i:016x}") for i in range(32)
    )
    images = LabeledImages("data", tmp_path, ("dry", "wet"), samples, (), "all of it")
    recipe = replace(get_recipe("small"), data=DataRecipe(keep_aspect=True), augment=AugmentRecipe(crop=0.5))
    ctx = make_context(tmp_path, images)
    choice = select_model(ctx, replace(recipe, run=RunRecipe(minutes=0.1)), time.monotonic() + 5, 5)
    assert choice.step_seconds > 0
    _, task = build_training(ctx, choice.recipe)
    assert task.preprocessing.keep_aspect
    pixels = make_noise_images(images, task)
    assert isinstance(pixels, list) and len(pixels) == task.batch_size
    assert [task.preprocessing.size_for(*sides) for sides in ((8, 32), (40, 10))] == [(4, 16), (16, 4)]
    # Larger by the margin of a crop.
    assert {tuple(picture.shape[1:]) for picture in pixels} == {(5, 20), (20, 5)}


@pytest.mark.parametrize(("split", "count"), [("train", 2), ("val", 2), ("test", 0)])
def test_weights_that_have_seen_test_images_say_so(tmp_path, split, count):
    """The bundle's run had other splits, as after images were added."""
    samples = tuple(Sample(f"{i}.png", i % 2, "test" if i < 4 else "train", 8, 8, 3, f"{i:016x}") for i in range(16))
    images = LabeledImages("data", tmp_path, ("cat", "dog"), samples, (), "all of it")
    earlier = [replace(sample, split=split) for sample in (*samples[:2], *samples[8:10])]
    make_bundle(tmp_path / "bundle", labels=("cat", "dog"), samples=earlier)
    pretrained = load_pretrained(str(tmp_path / "bundle"))
    recipe = get_recipe("small")
    recipe = replace(recipe, model=replace(recipe.model, image_size=8, channels=3))
    changes = build_pretrained(make_context(tmp_path, images), recipe, pretrained).changes
    found = [note for note in changes if "already trained on" in note]
    assert [note.partition(" test images")[0] for note in found] == ([f"{count} of the 4"] if count else [])
