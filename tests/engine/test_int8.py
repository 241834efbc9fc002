"""8-bit integers: near to float32, made so by bounds that were measured."""

from dataclasses import replace

import pytest
import torch

from megavit.config.presets import preset
from megavit.config.vit import PLAIN_VIT, Design, Pool
from megavit.engine.int8 import calibrate
from megavit.engine.openvino import OpenVino
from megavit.model.vit import MegaVit
from tests.engine.test_openvino import grown, pictures, preprocessing_of, run_pytorch

DESIGNS = {
    "parallel": Design(),
    "serial": PLAIN_VIT,
    "rotary, SwiGLU": Design(positions="rope", mlp="swiglu", registers=2),
}


def products(model: MegaVit) -> int:
    """In the layers: for queries, keys and values, for the way out, and for the MLP; the last layer's queries apart."""
    into = 2 if model.config.design.mlp == "swiglu" else 1
    apart = model.config.num_prefix_tokens > (model.config.pool == "cls_mean")
    return model.config.depth * (3 + into) + apart


@pytest.mark.parametrize(
    ("name", "pool"), [*((name, "mean") for name in DESIGNS), ("serial", "cls_mean"), ("rotary, SwiGLU", "cls_mean")]
)
def test_answers_are_near_those_of_float32(name: str, pool: Pool) -> None:
    config = replace(preset("nano", num_classes=7, design=DESIGNS[name]), pool=pool)
    model = grown(config)
    x, preprocessing = pictures(*config.image_hw), preprocessing_of(config)
    bounds = calibrate(model, preprocessing, [x])
    assert len(bounds) == products(model) and all(bound > 0 for bound in bounds)
    found = OpenVino(model, preprocessing, "float32", bounds)(x)
    exact = OpenVino(model, preprocessing, "float32")(x)
    for rounded, plain, expected in zip(found, exact, run_pytorch(model, x), strict=True):
        apart = (rounded - expected).abs().max() / expected.abs().max()
        assert (plain - expected).abs().max() / expected.abs().max() < apart < 0.15


def test_bounds_grow_with_the_images_they_are_measured_on() -> None:
    config = replace(preset("nano", num_classes=7), pool="cls")
    model, x = grown(config), pictures(*config.image_hw)
    parts = [calibrate(model, preprocessing_of(config), [part]) for part in (x[:1], x[1:])]
    both = calibrate(model, preprocessing_of(config), [x[:1], x[1:]])
    assert both == list(map(max, *parts)) and both not in parts


def test_wrong_bounds_give_wrong_answers() -> None:
    config = preset("nano", num_classes=7)
    model, x, preprocessing = grown(config), pictures(*config.image_hw), preprocessing_of(config)
    narrow = [bound / 50 for bound in calibrate(model, preprocessing, [x])]
    found, expected = OpenVino(model, preprocessing, "float32", narrow)(x)[1], run_pytorch(model, x)[1]
    assert (found - expected).abs().max() > 0.2 * expected.abs().max()
    torch.testing.assert_close(OpenVino(model, preprocessing, "float32")(x)[1], expected, rtol=0, atol=1e-3)
