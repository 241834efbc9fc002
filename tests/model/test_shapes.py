"""The formula against the model itself."""

import math
from dataclasses import replace

import pytest
import torch

from megavit.config.presets import PRESETS, preset
from megavit.config.vit import PLAIN_VIT, ZETA, Design, Pool, ViTConfig
from megavit.model.shapes import parameter_count, parameter_shapes
from megavit.model.vit import MegaVit

SMALL = preset("nano", num_classes=10)
DESIGNS = {
    "plain": PLAIN_VIT,
    "zeta": ZETA,
    "swiglu, registers, scales": Design(mlp="swiglu", registers=3, layer_scale=1e-5, prefix_positions="all"),
    "every norm": Design(
        patch_norm=True, pre_norm=True, attention_out_norm=True, mlp_out_norm=True, norm_bias=True, qkv_bias=True
    ),
    "rms": Design(norm="rms", norm_bias=True, positions="rope", block="serial"),
    "both positions": Design(positions="learned_rope", prefix_positions="none", patch_overlap=2),
    "both positions of another kind": Design(
        positions="learned_rope_native", registers=1, pool_heads=2, pool_prefix=True
    ),
    "rotary over a grid": Design(positions="rope_grid", registers=1),
    "sines": Design(positions="sincos", registers=2),
}


def shapes_of(config: ViTConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(one.shape) for name, one in MegaVit.from_config(config).named_parameters()}


@pytest.mark.parametrize("name", PRESETS)
def test_they_are_those_of_every_preset(name: str) -> None:
    config = preset(name)
    assert parameter_shapes(config) == shapes_of(config)
    assert parameter_count(config) == sum(math.prod(shape) for shape in shapes_of(config).values())


@pytest.mark.parametrize("pool", ["cls", "mean", "map"])
@pytest.mark.parametrize("name", DESIGNS)
def test_they_are_those_of_every_design(name: str, pool: Pool) -> None:
    config = replace(SMALL, design=DESIGNS[name], pool=pool, image_size=(32, 24), channels=1)
    assert list(parameter_shapes(config).items()) == list(shapes_of(config).items())


def test_without_classes_there_is_no_head() -> None:
    config = replace(SMALL, num_classes=0)
    assert parameter_shapes(config) == shapes_of(config)
