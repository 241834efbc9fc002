"""In training every parameter learns and chance acts as documented; in evaluation it does not act."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from megavit.config.vit import PLAIN_VIT, Design, Pool, ViTConfig
from megavit.model.vit import MegaVit

# The grid, 2 × 3, is no square and neither is its number of patches; the heads are wider than the stream.
CONFIG = ViTConfig(image_size=(8, 12), patch_size=4, num_classes=5, dim=32, depth=2, heads=4, mlp_dim=48, dim_head=12)
DESIGNS = [
    Design(),
    PLAIN_VIT,
    Design(registers=3, layer_scale=0.1, qkv_bias=True),
    Design(positions="rope", mlp="swiglu", registers=2),
    Design(block="serial", positions="sincos", norm="rms", mlp="relu2"),
]
POOL_NAMES: tuple[Pool, ...] = ("cls", "mean", "cls_mean", "map")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def make(**changes: Any) -> Any:
    """A `MegaVit`; `Any`, as torch types what is inside of modules too loosely."""
    return MegaVit.from_config(replace(CONFIG, **changes))


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 8, 12)


@pytest.mark.parametrize(("design", "pool"), list(product(DESIGNS, POOL_NAMES)))
def test_every_parameter_gets_a_gradient(design: Design, pool: Pool) -> None:
    design = replace(design, drop_path=0.1, patch_drop=0.2)
    model = make(design=design, pool=pool, dropout=0.1, emb_dropout=0.1)
    model(images(batch=8)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    "changes",
    [
        {"dropout": 0.5},
        {"emb_dropout": 0.5},
        {"design": Design(drop_path=0.9)},
        {"design": Design(patch_drop=0.5)},
        {"design": Design(patch_drop=0.5, positions="rope")},
    ],
)
@torch.no_grad()
def test_chance_acts_in_training_only(changes: dict[str, Any]) -> None:
    model = make(**changes)
    x = images(batch=16)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@torch.no_grad()
def test_without_dropout_training_answers_as_evaluation() -> None:
    model = make()
    x = images()
    assert torch.equal(model.train()(x), model.eval()(x))


@pytest.mark.parametrize("design", [Design(), Design(positions="rope"), Design(positions="sincos")])
@torch.no_grad()
def test_dropping_no_patch_changes_nothing(design: Design) -> None:
    """A share too small for one patch permutes them; every patch takes its position along, so no answer changes."""
    model = make(design=replace(design, patch_drop=0.01), pool="mean")
    x = images()
    dropping, whole = model.train().features(x), model.eval().features(x)
    torch.testing.assert_close(dropping.pooled, whole.pooled, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(dropping.patches, whole.patches)


@torch.no_grad()
def test_patch_drop_leaves_fewer_patches_and_all_prefix_tokens() -> None:
    features = make(design=Design(patch_drop=0.5, registers=2)).features(images())
    assert features.patches.shape == (2, 3, 32)
    assert features.prefix.shape == (2, 3, 32)


@pytest.mark.parametrize("design", DESIGNS)
def test_gradient_checkpointing_changes_no_gradient(design):
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = make(design=replace(design, drop_path=0.2), dropout=0.1)
        model.transformer.gradient_checkpointing = checkpointing
        model(torch.ones(3, 3, 8, 12)).square().sum().backward()
        found.append([weight.grad for weight in model.parameters()])
    for kept, again in zip(*found, strict=True):
        assert torch.equal(kept, again)
