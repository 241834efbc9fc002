"""The norm of the design, against its formula."""

from typing import Any

import pytest
import torch

from megavit.config.presets import preset
from megavit.config.vit import Design
from megavit.model.layers import BatchNorm, make_norm
from megavit.model.vit import MegaVit


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


def make_batch_norm() -> BatchNorm:
    norm = make_norm(Design(norm="batch"), 6)
    assert isinstance(norm, BatchNorm)
    for tensor in (norm.weight, norm.bias, norm.mean):
        torch.nn.init.normal_(tensor)
    torch.nn.init.uniform_(norm.variance, 0.5, 2.0)
    return norm


def test_a_batch_norm_takes_its_statistics_from_the_batch_in_training() -> None:
    norm, x = make_batch_norm().train(), 3 * torch.randn(4, 5, 6) + 1
    rows = x.flatten(0, 1)
    expected = (rows - rows.mean(dim=0)) / (rows.var(dim=0, correction=0) + 1e-6).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(norm(x).flatten(0, 1), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(norm.mean, rows.mean(dim=0))
    torch.testing.assert_close(norm.variance, rows.var(dim=0))


def test_a_batch_norm_is_a_factor_and_a_shift_in_evaluation() -> None:
    norm, x = make_batch_norm().eval(), torch.randn(4, 5, 6)
    before = norm.mean.clone()
    factor, shift = norm.affine()
    torch.testing.assert_close(norm(x).double(), x * factor + shift, atol=1e-5, rtol=1e-5)
    assert torch.equal(norm.mean, before)


def test_a_batch_norm_of_a_single_token_is_refused_in_training_only() -> None:
    model = MegaVit.from_config(preset("hybrid-nano", image_size=8, num_classes=2)).train()
    with pytest.raises(ValueError, match="more than one token in training: pass more images"):
        model(torch.zeros(1, 3, 8, 8))
    assert model(torch.zeros(2, 3, 8, 8)).shape == model.eval()(torch.zeros(2, 3, 8, 8)).shape
    assert model(torch.zeros(1, 3, 8, 8)).isfinite().all()


def test_queries_and_keys_of_a_design_with_batch_norms_have_layer_norms() -> None:
    model = MegaVit.from_config(preset("hybrid-nano", num_classes=2, image_size=16))
    names = {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, torch.nn.LayerNorm)}
    assert names == {"query_norm", "key_norm"}
