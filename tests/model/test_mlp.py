"""The MLP, against its formulas."""

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from megavit.config.vit import Design, Mlp, ViTConfig
from megavit.model.mlp import FeedForward

CONFIG = ViTConfig(image_size=8, patch_size=4, num_classes=5, dim=16, depth=2, heads=4, mlp_dim=24, dim_head=12)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def hidden_of(mlp: Mlp, h: Tensor) -> Tensor:
    match mlp:
        case "gelu":
            return h * 0.5 * (1 + torch.erf(h / math.sqrt(2)))
        case "gelu_tanh":
            return h * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        case "quick_gelu":
            return h / (1 + torch.exp(-1.702 * h))
        case "relu2":
            return h.clamp(min=0) ** 2
        case "swiglu":
            gate, value = h[..., :24], h[..., 24:]
            return gate / (1 + torch.exp(-gate)) * value


@pytest.mark.parametrize("mlp", get_args(Mlp))
def test_the_mlp_is_its_formula(mlp: Mlp) -> None:
    feedforward = FeedForward(replace(CONFIG, design=Design(mlp=mlp)))
    x = torch.randn(2, 5, 16)
    hidden = hidden_of(mlp, x @ feedforward.into.weight.T + feedforward.into.bias)
    torch.testing.assert_close(feedforward(x), hidden @ feedforward.out.weight.T + feedforward.out.bias)


@pytest.mark.parametrize(("mlp", "width"), [("gelu", 24), ("relu2", 24), ("swiglu", 48)])
def test_swiglu_reads_twice_its_width(mlp: Mlp, width: int) -> None:
    feedforward = FeedForward(replace(CONFIG, design=Design(mlp=mlp)))
    assert feedforward.into.weight.shape == (width, 16)
    assert feedforward.out.weight.shape == (16, 24)


def test_dropout_falls_on_the_hidden_and_on_the_answer_in_training_only() -> None:
    feedforward = FeedForward(replace(CONFIG, dropout=0.5))
    x = torch.randn(64, 5, 16)
    assert (feedforward(x) == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    feedforward.out_dropout.p = 0.0
    assert not torch.equal(feedforward(x), feedforward(x))
    feedforward.eval()
    assert torch.equal(feedforward(x), feedforward(x))


def test_a_norm_before_the_output_normalizes_the_hidden_channels() -> None:
    feedforward = FeedForward(replace(CONFIG, design=Design(mlp_out_norm=True)))
    x = torch.randn(2, 5, 16)
    hidden = hidden_of("gelu", x @ feedforward.into.weight.T + feedforward.into.bias)
    scaled = (hidden - hidden.mean(-1, keepdim=True)) / (hidden.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(feedforward(x), scaled @ feedforward.out.weight.T + feedforward.out.bias)
