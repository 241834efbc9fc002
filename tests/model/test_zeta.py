"""The layer of zetascale's MegaVit is its formula, piece by piece."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.config.vit import ZETA, ViTConfig
from megavit.model.vit import MegaVit

CONFIG = ViTConfig(
    image_size=(8, 12),
    patch_size=4,
    num_classes=5,
    dim=32,
    depth=3,
    heads=4,
    mlp_dim=48,
    dim_head=12,
    design=ZETA,
)


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    model = MegaVit.from_config(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def by_formula(layer: Any, x: Tensor) -> Tensor:
    def norm(module: Any, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], module.weight, module.bias, 1e-5)

    stream = norm(layer.stream_norm, x)
    queries, keys, values = layer.attention.to_qkv(norm(layer.attention_norm, stream)).chunk(3, dim=-1)
    heads = []
    for query, key, value in zip(*(part.split(12, dim=-1) for part in (queries, keys, values)), strict=True):
        scores = query @ norm(layer.attention.key_norm, key).mT / 12**0.5
        heads.append(scores.softmax(dim=-1) @ norm(layer.attention.value_norm, value))
    hidden = F.gelu(layer.mlp.into(norm(layer.mlp_norm, stream)))
    return stream + layer.attention.out(torch.cat(heads, dim=-1)) + layer.mlp.out(hidden)


@torch.no_grad()
def test_a_layer_is_its_formula(model: Any) -> None:
    x = torch.randn(2, 7, 32)
    for layer in model.transformer.layers:
        torch.testing.assert_close(layer(x), by_formula(layer, x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_norm_replaces_the_stream(model: Any) -> None:
    x = torch.randn(2, 7, 32)
    layer = model.transformer.layers[0]
    torch.testing.assert_close(layer(3 * x + 1), layer(x), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_images_of_different_sizes_in_one_sequence_are_what_they_are_alone(model: Any) -> None:
    images = [torch.randn(3, *sides) for sides in [(8, 12), (4, 16), (12, 8)]]
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(model(images), alone, atol=1e-5, rtol=1e-5)


def test_every_layer_has_a_norm_of_its_own(model: Any) -> None:
    norms = [*(layer.stream_norm for layer in model.transformer.layers), model.norm]
    assert len({norm.weight.data_ptr() for norm in norms}) == 4


def test_every_parameter_is_trained(model: Any) -> None:
    model.train()(torch.randn(2, 3, 8, 12)).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_it_works_in_bfloat16() -> None:
    model: Any = MegaVit.from_config(replace(CONFIG, dropout=0.1)).eval()
    x = torch.randn(2, 3, 8, 12)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        answer = model(x)
    torch.testing.assert_close(answer.float(), model(x).detach(), atol=0.1, rtol=0.1)
