from dataclasses import replace
from pathlib import Path

import pytest
import torch

from megavit.config.recipe import FinetuneRecipe, ModelRecipe, Recipe, RunRecipe
from megavit.config.vit import ViTConfig
from megavit.data.dataset import LabeledImages
from megavit.distributed.context import ParallelContext
from megavit.errors import ConfigError
from megavit.model.statistics import forward_flops
from megavit.training.context import RunContext
from megavit.training.setup import resolution
from megavit.training.setup.resolution import (
    check_affordable,
    choose_embedding_precision,
    choose_size_by_time,
    default_image_size,
    list_image_sizes,
    measure_image,
)
from megavit.weights.pretrained.pretrained import PretrainedModel
from tests.helpers.labeled_images import make_sized_samples
from tests.helpers.listener import Listener

SIZE = 56
PROBE = FinetuneRecipe(method="probe")


def make_weights(own: int | None = None, size: int | tuple[int, int] = 518, patch: int = 14) -> PretrainedModel:
    """Weights of a tiny model, whose files prepare images to `own` pixels."""
    config = ViTConfig(
        image_size=size, patch_size=patch, num_classes=0, dim=32, depth=1, heads=1, mlp_dim=32, dim_head=32
    )
    return PretrainedModel(name="tiny", config=config, tensors={}, preprocessing=None, image_size=own)


def make_context(side: int = 500, count: int = 100) -> RunContext:
    samples = make_sized_samples(count, height=side, width=side + 40, channels=3)
    dataset = LabeledImages("photos", Path("photos"), ("cat", "dog"), tuple(samples), (), "all of it")
    return RunContext(Path("run"), dataset, torch.device("cpu"), ParallelContext(), Listener())


@pytest.mark.parametrize(
    ("weights", "side", "sizes"),
    [
        (make_weights(224), 500, [56, 84, 112, 168, 224]),
        (make_weights(), 500, [56, 84, 112, 168, 224, 336, 448, 518]),
        (make_weights(256, 256, 16), 500, [64, 80, 112, 160, 224, 256]),
        (make_weights(224), 90, [56, 84, 112, 168]),  # 224 pixels would be far above 90
        (make_weights(224), 20, [56, 84, 112]),
        (make_weights(20, 20, 4), 500, [20]),
        (make_weights(None, (224, 112)), 500, []),
    ],
)
def test_sizes_are_whole_patches_up_to_the_weights_own_and_not_far_above_the_images(weights, side, sizes):
    assert list_image_sizes(weights, make_context(side).dataset) == sizes


@pytest.mark.parametrize(
    ("weights", "size"),
    [
        (make_weights(), 224),
        (make_weights(None, 384, 16), 224),
        (make_weights(196), 196),
        (make_weights(None, (224, 112)), None),
    ],
)
def test_without_a_budget_images_have_224_pixels_or_the_weights_own(weights, size):
    assert default_image_size(weights) == size


@pytest.mark.parametrize(
    ("second", "size", "measured"),
    [
        # In 45% of 60 seconds 100 images may take 0.27 s each.
        (1e-6, 448, [56, 448]),
        (0.02, 224, [56, 224]),
        (0.2, 112, [56, 112]),
        (0.6, 56, [56]),
    ],
)
def test_the_largest_size_is_taken_at_which_embedding_fits(monkeypatch, second, size, measured):
    tried = []

    def measure(ctx, recipe, pretrained):
        tried.append(recipe.model.image_size)
        flops = [forward_flops(replace(weights.config, image_size=side)) for side in (tried[-1], 112)]
        return second * flops[0] / flops[1]

    monkeypatch.setattr(resolution, "measure_image", measure)
    ctx, weights = make_context(), make_weights(448)
    recipe = Recipe(model=ModelRecipe(pretrained="tiny"), run=RunRecipe(minutes=1), finetune=PROBE)
    assert choose_size_by_time(ctx, recipe, weights) == size and tried == measured
    assert isinstance(ctx.reporter, Listener)
    (line,) = ctx.reporter.lines
    assert line.startswith(f"images are resized to {size} pixels: embedding all 100 will take about")


def test_a_size_that_is_slower_than_expected_gives_way_to_a_smaller_one(monkeypatch):
    seconds = {56: 0.00001, 224: 0.2, 448: 1.0}
    monkeypatch.setattr(resolution, "measure_image", lambda ctx, recipe, _: seconds[recipe.model.image_size])
    recipe = Recipe(model=ModelRecipe(pretrained="tiny"), run=RunRecipe(minutes=1), finetune=PROBE)
    assert choose_size_by_time(make_context(), recipe, make_weights(448)) == 224


@pytest.mark.parametrize(
    ("seconds", "size"),
    [
        ({56: 0.0001, 84: 0.0003, 112: 0.0005, 168: 0.001, 224: 0.002}, 224),
        ({56: 0.001, 84: 0.002, 112: 0.003, 168: 0.019, 224: 0.04}, 112),
        ({56: 0.001, 84: 0.02, 112: 0.03, 168: 0.05, 224: 0.9}, 84),  # the smallest one at which there are 40 steps
        ({56: 0.001, 84: 0.05, 112: 0.06, 168: 0.07, 224: 0.9}, 168),  # not 56, where weights are not tuned
    ],
)
def test_a_smaller_size_is_taken_if_it_leaves_time_to_tune(monkeypatch, seconds, size):
    """Embedding may take 0.54 s an image; 100 steps of 32 images of twice the work leave 0.015 s, 40 steps 0.035 s."""
    monkeypatch.setattr(resolution, "fast_precision", lambda device: "float32")
    monkeypatch.setattr(resolution, "measure_image", lambda ctx, recipe, _: seconds[recipe.model.image_size])
    recipe = Recipe(model=ModelRecipe(pretrained="tiny"), run=RunRecipe(minutes=2, batch_size=32))
    assert choose_size_by_time(make_context(), recipe, make_weights(224)) == size


def test_more_images_than_the_time_suffices_for_are_refused_with_advice(monkeypatch):
    monkeypatch.setattr(resolution, "measure_image", lambda ctx, recipe, _: 0.9)
    recipe = Recipe(model=ModelRecipe(pretrained="tiny"), run=RunRecipe(minutes=2, batch_size=32))
    sentence = r"embedding all 100 images would take about 90 of the 1\d\d seconds left: .*--minutes.*--from scratch"
    with pytest.raises(ConfigError, match=sentence):
        check_affordable(make_context(), recipe, make_weights(224))
    # Once it has begun, a machine that became slower does not end a run.
    assert choose_size_by_time(make_context(), recipe, make_weights(224)) == 56


def test_a_run_by_epochs_takes_the_time_it_needs(monkeypatch):
    monkeypatch.setattr(resolution, "measure_image", lambda ctx, recipe, _: 9.0)
    check_affordable(make_context(), Recipe(run=RunRecipe(epochs=1)), make_weights(224))


def test_an_image_is_measured_by_the_engine(monkeypatch):
    chosen = []
    monkeypatch.setattr(
        resolution.Engine, "choose_runtime", lambda engine, images: chosen.append(tuple(images.shape[1:]))
    )
    monkeypatch.setattr("megavit.training.loop.build.initialize_from", lambda model, pretrained: [])
    recipe = Recipe(model=ModelRecipe(pretrained="tiny", image_size=SIZE, channels=3), run=RunRecipe(minutes=0.01))
    assert measure_image(make_context(), recipe, replace(make_weights(), tensors={})) > 0
    assert chosen == [(3, SIZE, SIZE)]


@pytest.mark.parametrize(
    ("precision", "method", "fast", "expected"),
    [
        ("auto", "auto", "bfloat16", "bfloat16"),
        ("auto", "auto", "float32", "float32"),
        ("auto", "probe", "bfloat16", "float32"),  # its embeddings are those that it is evaluated by
        ("float32", "auto", "bfloat16", "float32"),
        ("bfloat16", "auto", "float32", "bfloat16"),
    ],
)
def test_images_are_embedded_in_the_precision_of_the_steps(monkeypatch, precision, method, fast, expected):
    monkeypatch.setattr(resolution, "fast_precision", lambda device: fast)
    recipe = Recipe(finetune=FinetuneRecipe(method=method), run=RunRecipe(precision=precision))
    assert choose_embedding_precision(recipe, torch.device("cpu")) == expected
