"""Integrated gradients add up, and are those of the patches."""

import pytest
import torch
from hypothesis import given

from megavit.config.vit import PLAIN_VIT, Pool, ViTConfig
from megavit.explain.maps import integrated_gradients
from megavit.model.vit import MegaVit
from tests.helpers.brightness_model import BRIGHT, COLUMNS, PATCH, ROWS, make_bright_images, make_brightness_model
from tests.helpers.bundles import make_model
from tests.properties.test_model import configs, images


@pytest.mark.parametrize("pool", ["cls", "mean", "cls_mean", "map"])
def test_with_many_steps_they_sum_to_what_the_image_adds_to_the_logit(pool: Pool) -> None:
    model = make_model(pool=pool, mlp_dim=8).eval().double()
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    target = torch.tensor([0, 1, 2])
    with torch.no_grad():
        added = (model(x) - model(torch.zeros_like(x))).gather(1, target[:, None])[:, 0]
    found = integrated_gradients(model, x, target, steps=200).sum(dim=1)
    torch.testing.assert_close(found.double(), added, atol=0.02, rtol=0.02)


def test_for_a_linear_model_a_patch_adds_its_pixels_times_their_weights() -> None:
    """Without layers that do anything, and without norms, a mean of projections is left."""
    model = make_brightness_model("mean", PLAIN_VIT)
    model.norm = torch.nn.Identity()  # pyrefly: ignore[bad-assignment]
    for layer in model.transformer.layers:
        for parameter in layer.parameters():
            parameter.data.zero_()
    x = torch.randn(2, 1, 6, 8)
    found = integrated_gradients(model, x, torch.tensor([BRIGHT, BRIGHT]), steps=1)
    patches = x.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).sum(dim=(1, 4, 5)).flatten(1) / (ROWS * COLUMNS)
    torch.testing.assert_close(found, patches)


def test_a_patch_that_is_the_mean_adds_nothing() -> None:
    found = integrated_gradients(make_model(), torch.zeros(1, 3, 8, 8), torch.tensor([1]))
    assert torch.equal(found, torch.zeros(1, 4))
    model = make_brightness_model("cls", PLAIN_VIT)
    only = integrated_gradients(model, make_bright_images(7), torch.tensor([BRIGHT]))[0]
    assert only[7] > 0 and only.count_nonzero() == 1


@given(config=configs())
def test_every_model_has_finite_ones_for_the_likeliest_answer(config: ViTConfig) -> None:
    model, x = MegaVit.from_config(config).eval(), images(config, 2, config.grid)
    found = integrated_gradients(model, x)
    assert found.shape == (2, config.num_patches) and found.isfinite().all()
    with torch.no_grad():
        likeliest = model(x).argmax(dim=1)
    torch.testing.assert_close(integrated_gradients(model, x, likeliest), found)
