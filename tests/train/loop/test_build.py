import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from megavit.config.recipe import AugmentRecipe, DataRecipe, RunRecipe
from megavit.config.recipes import get_recipe
from megavit.data.dataset import LabeledImages, Sample
from megavit.errors import DataError
from megavit.predict.postprocess.ood import fit_mahalanobis_ood
from megavit.train.budget.measure import choose_by_time
from megavit.train.loop.build import compared, fresh, noise
from megavit.train.progress import NullReporter
from megavit.train.setup.resolve import resolve

CPU = torch.device("cpu")


def images_that_are_gone(channels: int, folder: Path) -> LabeledImages:
    samples = tuple(Sample(f"{i}.npy", i % 2, "train", 8, 8, channels, f"{i:016x}") for i in range(32))
    return LabeledImages("data", folder, ("dry", "wet"), samples, (), "all of it")


def test_the_model_is_chosen_without_reading_an_image(tmp_path):
    images = images_that_are_gone(5, tmp_path)
    recipe = get_recipe("small")
    recipe = replace(recipe, run=replace(recipe.run, minutes=0.1))
    choice = choose_by_time(recipe, images, CPU, time.monotonic(), NullReporter())
    assert choice.recipe.model.channels == 5 and choice.step > 0


def test_the_mean_and_spread_of_many_channels_are_found_by_reading_images(tmp_path):
    images = images_that_are_gone(5, tmp_path)
    with pytest.raises(DataError, match="cannot any more"):
        fresh(resolve(get_recipe("small"), images, CPU), images, CPU)


def test_the_noise_that_is_measured_on_has_the_shapes_of_the_images(tmp_path):
    samples = tuple(
        Sample(f"{i:02}.npy", i % 2, "train", *((8, 32) if i < 16 else (40, 10)), 1, f"{i:016x}") for i in range(32)
    )
    images = LabeledImages("data", tmp_path, ("dry", "wet"), samples, (), "all of it")
    recipe = replace(get_recipe("small"), data=DataRecipe(keep_aspect=True), augment=AugmentRecipe(crop=0.5))
    choice = choose_by_time(replace(recipe, run=RunRecipe(minutes=0.1)), images, CPU, time.monotonic(), NullReporter())
    assert choice.step > 0
    _, task = fresh(choice.recipe, images, CPU)
    assert task.preprocessing.keep_aspect
    pixels = noise(images, task)
    assert isinstance(pixels, list) and len(pixels) == task.batch_size
    assert [task.preprocessing.size_for(*sides) for sides in ((8, 32), (40, 10))] == [(4, 16), (16, 4)]
    # Larger by the margin of a crop.
    assert {tuple(picture.shape[1:]) for picture in pixels} == {(5, 20), (20, 5)}


def of_classes(classes: int, each: int) -> list[Sample]:
    return [Sample(f"{i}.png", i // each, "train", 8, 8, 1, f"{i:016x}") for i in range(classes * each)]


@pytest.mark.parametrize(("classes", "each", "expected"), [(10, 60, 600), (10, 400, 2000), (300, 60, 3000), (9, 3, 27)])
def test_new_images_are_compared_with_enough_of_every_class(classes, each, expected):
    training = of_classes(classes, each)
    chosen = compared(training)
    assert len(chosen) == expected and set(chosen) <= set(training)
    assert min(Counter(sample.target for sample in chosen).values()) >= min(10, each)
    kept = set(chosen)
    assert [sample for sample in training if sample in kept] == chosen


def test_scores_have_no_classes_to_be_compared_with():
    scores = [Sample(f"{i}.png", i / 7, "train", 8, 8, 1, f"{i:016x}") for i in range(5000)]
    assert compared(scores) == scores[::3]


@pytest.mark.parametrize("classes", [100, 2000])
def test_images_of_unseen_classes_are_marked_however_many_classes_there_are(classes):
    random = torch.Generator().manual_seed(0)
    training = of_classes(classes, 20)
    means = torch.randn(classes + 50, 64, generator=random)

    def images_of(labels: torch.Tensor) -> torch.Tensor:
        return means[labels] + 0.8 * torch.randn(len(labels), 64, generator=random)

    known = torch.tensor([sample.label for sample in compared(training)])
    trained = fit_mahalanobis_ood(images_of(known), known)
    validation = trained.distance(images_of(torch.arange(classes).repeat(4000 // classes)))
    threshold = validation.quantile(0.99)
    unseen = trained.distance(images_of(classes + torch.arange(50).repeat(20)))
    # With one image of each class, as of 2,000 in all, every one of them is taken for a known one.
    assert (unseen > threshold).float().mean() > 0.85
