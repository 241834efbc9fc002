"""Every parameter has a rule for its initial value, and starts small."""

import math
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from megavit.config.presets import PRESETS, preset
from megavit.config.vit import PLAIN_VIT, Design, Pool, ViTConfig
from megavit.model.init import initialize
from megavit.model.vit import MegaVit

CONFIG = ViTConfig(
    image_size=(64, 96), patch_size=8, num_classes=50, dim=128, depth=3, heads=4, mlp_dim=192, dim_head=48
)
DESIGNS = [
    Design(),
    PLAIN_VIT,
    Design(registers=3, layer_scale=1e-5, norm_bias=True),
    Design(positions="rope", mlp="swiglu", registers=2),
    Design(block="serial", positions="sincos", norm="rms", mlp="relu2", qkv_bias=True),
]
POOL_NAMES: tuple[Pool, ...] = ("cls", "mean", "cls_mean", "map")
EVERY_PART = pytest.mark.parametrize(("design", "pool"), list(product(DESIGNS, POOL_NAMES)))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def from_nan(config: ViTConfig) -> MegaVit:
    """Built on meta, moved to storage full of NaN, initialized: what has no rule would stay NaN."""
    with torch.device("meta"):
        model = MegaVit.from_config(config)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(math.nan)
    model.initialize()
    return model


def small(config: ViTConfig) -> ViTConfig:
    """The same parts in the same arrangement, with little in each."""
    height, width = config.patch_hw
    heads = config.heads
    return replace(config, image_size=(2 * height, 2 * width), dim=8 * heads, dim_head=8, mlp_dim=16 * heads, depth=2)


@pytest.mark.parametrize("name", PRESETS)
def test_no_parameter_of_a_preset_is_forgotten(name: str) -> None:
    config = preset(name)
    model = from_nan(config if config.dim < 384 else small(config))
    assert [key for key, parameter in model.named_parameters() if not parameter.isfinite().all()] == []


@EVERY_PART
def test_no_parameter_of_a_design_is_forgotten(design: Design, pool: Pool) -> None:
    model = from_nan(small(replace(CONFIG, design=design, pool=pool)))
    assert [key for key, parameter in model.named_parameters() if not parameter.isfinite().all()] == []
    assert list(model.buffers()) == []


def test_a_module_without_a_rule_is_an_error_that_names_it() -> None:
    model: Any = MegaVit.from_config(small(CONFIG))
    model.mlp_head = nn.Bilinear(8, 8, 5)
    with pytest.raises(TypeError, match="mlp_head: weight, bias"):
        model.initialize()


def test_a_loose_parameter_is_an_error_too() -> None:
    model = MegaVit.from_config(small(CONFIG))
    model.temperature = nn.Parameter(torch.ones(()))
    with pytest.raises(TypeError, match="the model: temperature"):
        model.initialize()


@pytest.mark.parametrize("pool", POOL_NAMES)
def test_tokens_positions_and_classifier_start_small(pool: Pool) -> None:
    """std 0.02, or 1 / √dim for positions; a relative of this model started them at 1."""
    model: Any = MegaVit.from_config(replace(CONFIG, pool=pool, design=Design(registers=4)))
    tokens = [*model.prefix_tokens.parameters(), *([model.pool.query] if pool == "map" else [])]
    assert len(tokens) == {"cls": 3, "mean": 1, "cls_mean": 3, "map": 2}[pool]
    for parameter in tokens:
        assert 0.014 < parameter.std() < 0.026
    assert 0.9 < model.positions.table.std() * model.config.dim**0.5 < 1.1
    assert 0.015 < model.mlp_head.weight.std() <= 0.021


@EVERY_PART
def test_no_weight_starts_larger_than_its_rule(design: Design, pool: Pool) -> None:
    """1 / √fan-in, smaller by √(2 depth) on each layer's output projections, cut at twice that."""
    model = MegaVit.from_config(replace(CONFIG, design=design, pool=pool))
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            std = 0.02 if name == "mlp_head" else 1 / math.sqrt(module.in_features)
            if name.startswith("transformer") and name.endswith(".out"):
                std /= math.sqrt(2 * 3)
            assert 0.8 * std < module.weight.std() < 1.02 * std, name
            assert module.weight.abs().max() <= 2 * std * (1 + 1e-6), name


@EVERY_PART
def test_biases_start_at_0_norms_at_1_and_layer_scale_at_its_value(design: Design, pool: Pool) -> None:
    model = MegaVit.from_config(small(replace(CONFIG, design=design, pool=pool)))
    seen = set()
    for name, parameter in model.named_parameters():
        last = name.rsplit(".", 1)[-1]
        if last == "bias":
            expected = 0.0
        elif last == "factor":
            expected = design.layer_scale or math.nan
        elif parameter.ndim == 1 and last == "weight":
            expected = 1.0
        else:
            continue
        seen.add(last)
        assert torch.equal(parameter, torch.full_like(parameter, expected)), name
    assert seen == {"bias", "weight"} | ({"factor"} if design.layer_scale else set())


@pytest.mark.parametrize("design", [Design(), PLAIN_VIT])
@torch.no_grad()
def test_the_stream_keeps_its_size_through_a_deep_model(design: Design) -> None:
    transformer = MegaVit.from_config(replace(CONFIG, depth=32, design=design)).transformer
    x = torch.randn(2, 20, 128)
    assert 1 < transformer(x).std() < 2


def test_the_global_seed_decides_the_values() -> None:
    models = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        models.append(MegaVit.from_config(small(CONFIG)).state_dict())
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])
    assert not torch.equal(models[0]["mlp_head.weight"], models[2]["mlp_head.weight"])


def test_initialize_covers_a_part_alone() -> None:
    linear = nn.Linear(64, 64)
    initialize(nn.Sequential(linear), depth=1)
    assert 0.8 / 8 < linear.weight.std() < 1 / 8
