"""The formulas against what PyTorch counts."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from megavit.config.presets import preset
from megavit.config.vit import PLAIN_VIT, Design
from megavit.model.statistics import block_shapes, forward_flops, parameter_shapes, training_flops
from megavit.model.vit import MegaVit

# Positions that need no multiplication of matrices at another size.
COMPUTED = Design(positions="sincos")
CONFIGS = {
    "parallel": preset("nano", num_classes=10, design=COMPUTED),
    "serial": preset("Ti", num_classes=10, design=replace(PLAIN_VIT, positions="sincos")),
    "registers, SwiGLU": preset("nano", num_classes=10, design=replace(COMPUTED, registers=3, mlp="swiglu")),
    "map": replace(preset("micro", num_classes=10, design=COMPUTED), pool="map"),
    "map of all tokens": replace(
        preset("micro", num_classes=10, design=replace(COMPUTED, registers=2, pool_prefix=True, pool_heads=4)),
        pool="map",
    ),
    "class token and mean": replace(
        preset("nano", num_classes=10, design=replace(COMPUTED, registers=2)), pool="cls_mean"
    ),
    "stem": preset("nano", num_classes=10, channels=1, design=replace(COMPUTED, stem="conv")),
    "hybrid": preset("hybrid-nano", num_classes=10, design=replace(COMPUTED, stem="conv", norm="batch")),
    "no head": preset("nano", num_classes=0, design=COMPUTED),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_flops_are_those_that_pytorch_counts(name: str) -> None:
    config = CONFIGS[name]
    model = MegaVit.from_config(config).eval()
    (height, width), (patch, _) = config.image_hw, config.patch_hw
    for size in ((height, width), (height + patch, width - patch)):
        grid, image = (size[0] // patch, size[1] // patch), torch.randn(1, config.channels, *size)
        with FlopCounterMode(display=False) as counted, torch.no_grad():
            model(image)
        assert counted.get_total_flops() == forward_flops(config, grid, all_tokens=False)
        with FlopCounterMode(display=False) as counted, torch.no_grad():
            model.mlp_head(model.features(image).pooled)
        assert counted.get_total_flops() == forward_flops(config, grid)


def test_a_training_step_is_three_times_as_much() -> None:
    config = preset("nano", num_classes=10)
    model = MegaVit.from_config(config)
    with FlopCounterMode(display=False) as counted:
        model(torch.randn(2, 3, 32, 32)).sum().backward()
    # The images themselves need no gradient.
    assert counted.get_total_flops() == pytest.approx(2 * training_flops(config), rel=0.02)


def test_the_layers_are_alike_and_the_shapes_are_those_of_the_parameters() -> None:
    config = preset("nano", num_classes=10)
    shapes = parameter_shapes(config)
    assert shapes == {name: tuple(p.shape) for name, p in MegaVit.from_config(config).named_parameters()}
    for layer in range(config.depth):
        assert {n: shapes[f"transformer.layers.{layer}.{n}"] for n in block_shapes(config)} == block_shapes(config)
