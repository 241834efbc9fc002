"""The norm of the design, against its formula."""

from typing import Any

import pytest
import torch

from megavit.config.vit import Design
from megavit.model.layers import make_norm


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("design", "names"),
    [
        (Design(), ["weight"]),
        (Design(norm_bias=True), ["weight", "bias"]),
        (Design(norm="rms"), ["weight"]),
        (Design(norm="rms", norm_bias=True), ["weight"]),
    ],
)
def test_only_a_layer_norm_has_a_bias_and_only_if_asked(design: Design, names: list[str]) -> None:
    norm = make_norm(design, 16)
    assert [name for name, _ in norm.named_parameters()] == names
    assert all(parameter.shape == (16,) for parameter in norm.parameters())


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_layer_norm_is_its_formula(size: float) -> None:
    """With tokens of 1e-3 the variance is as small as ε, so a wrong ε shows."""
    norm: Any = make_norm(Design(norm_bias=True), 16)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_()
    x = torch.randn(3, 5, 16) * size + size
    centered = x - x.mean(dim=-1, keepdim=True)
    expected = centered / (centered.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_rms_norm_is_its_formula_and_does_not_centre(size: float) -> None:
    norm = make_norm(Design(norm="rms"), 16)
    with torch.no_grad():
        norm.weight.normal_()
    x = torch.randn(3, 5, 16) * size + size
    expected = x / (x.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt() * norm.weight
    torch.testing.assert_close(norm(x), expected)
