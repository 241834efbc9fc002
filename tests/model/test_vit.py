"""The whole model: its arguments, its config, its features and its answers."""

import inspect
from dataclasses import MISSING, fields, replace
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
EVERY_POOL = pytest.mark.parametrize("pool", POOL_NAMES)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def make(**changes: Any) -> Any:
    """A `MegaVit`; `Any`, as torch types what is inside of modules too loosely."""
    return MegaVit.from_config(replace(CONFIG, **changes))


def images(*sides: int) -> Tensor:
    return torch.randn(2, 3, *(sides or (8, 12)))


def test_the_arguments_are_the_twelve_and_the_design() -> None:
    parameters = list(inspect.signature(MegaVit.__init__).parameters.values())[1:]
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters)
    assert {parameter.name: parameter.default for parameter in parameters} == {
        "image_size": inspect.Parameter.empty,
        "patch_size": inspect.Parameter.empty,
        "num_classes": inspect.Parameter.empty,
        "dim": inspect.Parameter.empty,
        "depth": inspect.Parameter.empty,
        "heads": inspect.Parameter.empty,
        "mlp_dim": inspect.Parameter.empty,
        "pool": "cls",
        "channels": 3,
        "dim_head": 64,
        "dropout": 0.0,
        "emb_dropout": 0.0,
        "design": Design(),
    }


def test_model_and_config_have_the_same_arguments_and_defaults() -> None:
    of_model = inspect.signature(MegaVit).parameters
    assert list(of_model) == [field.name for field in fields(ViTConfig)]
    for field in fields(ViTConfig):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        assert of_model[field.name].default == (inspect.Parameter.empty if default is MISSING else default)


def test_the_documented_model() -> None:
    with torch.device("meta"):
        model = MegaVit(
            image_size=256,
            patch_size=32,
            num_classes=1000,
            dim=512,
            depth=6,
            heads=8,
            mlp_dim=1024,
            dropout=0.1,
            emb_dropout=0.1,
        )
        assert model(torch.randn(1, 3, 256, 256)).shape == (1, 1000)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"image_size": (9, 12)}, "height, 9"),
        ({"pool": "max"}, "pool"),
        ({"heads": True}, "heads"),
        ({"dim": 0}, "dim"),
        ({"dropout": 1.0}, "dropout"),
        ({"design": "serial"}, "design"),
    ],
)
def test_the_constructor_refuses_what_the_config_refuses(changes: dict[str, Any], word: str) -> None:
    arguments = {field.name: getattr(CONFIG, field.name) for field in fields(CONFIG)}
    with pytest.raises(ValueError, match=word):
        MegaVit(**arguments | changes)


@pytest.mark.parametrize(("design", "pool"), list(product(DESIGNS, POOL_NAMES)))
def test_a_config_rebuilds_the_same_shapes(design: Design, pool: Pool) -> None:
    model = make(design=design, pool=pool)
    again = MegaVit.from_config(model.config)
    assert again.config == model.config
    assert {name: tensor.shape for name, tensor in again.state_dict().items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }


@pytest.mark.parametrize(("patch_size", "patches"), [(4, 6), ([4, 4], 6), ((8, 3), 4), ((2, 12), 4)])
@EVERY_POOL
@torch.no_grad()
def test_features_are_what_the_head_classifies(pool: Pool, patch_size: Any, patches: int) -> None:
    model = make(pool=pool, patch_size=patch_size, design=Design(registers=2)).eval()
    x = images()
    features = model.features(x)
    prefix = 3 if pool in ("cls", "cls_mean") else 2
    assert features.pooled.shape == (2, model.config.pooled_dim)
    assert features.prefix.shape == (2, prefix, 32)
    assert features.patches.shape == (2, patches, 32)
    assert features.grid == model.config.grid
    assert torch.equal(model.pool(features.prefix, features.patches), features.pooled)
    logits = model(x)
    assert logits.shape == (2, 5)
    torch.testing.assert_close(model.mlp_head(features.pooled), logits)


@pytest.mark.parametrize("design", [*DESIGNS, Design(norm="batch")])
def test_the_last_layer_computes_only_the_class_token_and_the_gradients_are_the_same(design: Design) -> None:
    model, x = make(design=design, pool="cls", dropout=0.0), images()
    widths: list[int] = []
    weights = list(model.parameters())
    torch.manual_seed(0)
    all_tokens = torch.autograd.grad(model.mlp_head(model.features(x).pooled).square().sum(), weights)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        mlp = model.transformer.layers[-1].mlp
        forward = mlp.forward
        patch.setattr(mlp, "forward", lambda tokens: (widths.append(tokens.shape[1]), forward(tokens))[1])
        class_token = torch.autograd.grad(model(x).square().sum(), weights)
    everything = model.config.num_patches + model.config.num_prefix_tokens
    assert widths == [everything if design.norm == "batch" else 1]
    for ours, theirs in zip(class_token, all_tokens, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_hook_on_the_last_layer_sees_all_tokens() -> None:
    model, x = make(pool="cls").eval(), images()
    seen: list[int] = []
    expected = model(x)
    for module in (model.transformer.layers[-1], model.transformer.layers[-1].mlp, model.norm, model.transformer):
        hook = module.register_forward_hook(lambda _, __, output: seen.append(output.shape[1]))
        torch.testing.assert_close(model(x), expected)
        hook.remove()
    assert seen == [7] * 4


@torch.no_grad()
def test_mean_pooling_is_the_mean_of_the_patches_alone() -> None:
    features = make(pool="mean", design=Design(registers=3)).features(images())
    torch.testing.assert_close(features.pooled, features.patches.mean(dim=1))
    everything = torch.cat([features.prefix, features.patches], dim=1).mean(dim=1)
    assert not torch.allclose(features.pooled, everything, atol=1e-3)


@torch.no_grad()
def test_cls_pooling_is_the_class_token() -> None:
    features = make(design=Design(registers=3)).features(images())
    assert torch.equal(features.pooled, features.prefix[:, 0])


@torch.no_grad()
def test_cls_mean_pooling_is_both_one_after_the_other() -> None:
    model = make(pool="cls_mean", design=Design(registers=3))
    features = model.features(images())
    assert torch.equal(features.pooled, torch.cat([features.prefix[:, 0], features.patches.mean(dim=1)], dim=1))
    assert model.mlp_head.weight.shape == (5, 64)


@EVERY_POOL
@torch.no_grad()
def test_tokens_are_normalized_before_they_are_pooled(pool: Pool) -> None:
    features = make(pool=pool, design=Design(registers=1)).features(images())
    for tokens in (features.prefix, features.patches):
        torch.testing.assert_close(tokens.std(dim=-1, correction=0), torch.ones(tokens.shape[:2]), atol=1e-3, rtol=0)


@EVERY_POOL
@torch.no_grad()
def test_without_classes_the_answer_is_the_pooled_features(pool: Pool) -> None:
    model = make(num_classes=0, pool=pool).eval()
    x = images()
    assert model(x).shape == (2, 64 if pool == "cls_mean" else 32)
    torch.testing.assert_close(model(x), model.features(x).pooled)
    assert not any(name.startswith("mlp_head") for name in model.state_dict())


@pytest.mark.parametrize(("design", "pool"), list(product(DESIGNS, POOL_NAMES)))
@torch.no_grad()
def test_a_state_dict_carries_the_whole_model(design: Design, pool: Pool) -> None:
    model, other = make(design=design, pool=pool).eval(), make(design=design, pool=pool).eval()
    x = images()
    assert not torch.allclose(other(x), model(x))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))


def test_the_position_table_has_no_batch_axis() -> None:
    """A leading axis of 1 would be padded by every rank that shards it."""
    assert make().positions.table.shape == (6, 32)
    assert all(parameter.shape[0] > 1 for parameter in make(design=Design(registers=2)).parameters())
