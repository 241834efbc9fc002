"""Queries and keys are normalized, values are not; either way of computing attention gives the same."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.config.vit import PLAIN_VIT, Design, ViTConfig
from megavit.model import attention as module
from megavit.model.attention import MAX_EAGER_TOKENS, Attention, attend, attend_eager
from megavit.model.block import Transformer
from megavit.model.init import initialize

CONFIG = ViTConfig(image_size=8, patch_size=4, num_classes=5, dim=32, depth=1, heads=4, mlp_dim=48, dim_head=12)
INNER = 4 * 12


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def attended(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Tensor, Tensor, Tensor]]]:
    """Every (query, key, value) that reaches the dot product."""
    seen = []

    def watched(query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
        seen.append((query, key, value))
        return attend(query, key, value, dropout)

    monkeypatch.setattr(module, "attend", watched)
    yield seen
    assert seen


def make(design: Design = Design(), **changes: Any) -> Any:  # noqa: B008 - frozen
    """An `Attention` with its initial values; `Any`, as torch types what is inside of modules too loosely."""
    transformer = Transformer(replace(CONFIG, design=design, **changes))
    initialize(transformer, depth=1)
    return transformer.layers[0].attention


@pytest.mark.parametrize("norm", ["layer", "rms"])
@torch.no_grad()
def test_queries_and_keys_are_normalized_and_values_are_not(
    norm: str, attended: list[tuple[Tensor, Tensor, Tensor]]
) -> None:
    attention = make(Design(norm="rms" if norm == "rms" else "layer"))
    x = 5 * torch.randn(2, 7, 32)
    attention(x)
    query, key, value = attended[0]
    for normalized in (query, key):
        torch.testing.assert_close(normalized.square().mean(dim=-1), torch.ones(2, 4, 7), atol=1e-3, rtol=0)
        if norm == "layer":
            torch.testing.assert_close(normalized.mean(dim=-1), torch.zeros(2, 4, 7), atol=1e-5, rtol=0)
    raw = attention.to_qkv(x)[..., 2 * INNER :].unflatten(-1, (4, 12)).transpose(1, 2)
    torch.testing.assert_close(value, raw)
    assert value.square().mean() > 5


@torch.no_grad()
def test_logits_stay_bounded_when_the_query_weights_grow(attended: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    attention = make()
    attention.query_norm.weight.copy_(torch.rand(12) + 0.5)
    bound = math.sqrt(12) * attention.query_norm.weight.max()
    attention.to_qkv.weight[:INNER] *= 1000
    attention(torch.randn(2, 7, 32))
    query, key, _ = attended[0]
    logits = query @ key.transpose(-2, -1) / math.sqrt(12)
    assert logits.abs().max() <= bound


@torch.no_grad()
def test_without_qk_norm_the_logits_grow_with_the_query_weights(attended: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    attention = make(replace(PLAIN_VIT, qkv_bias=False))
    x = torch.randn(2, 7, 32)
    attention(x)
    attention.to_qkv.weight[:INNER] *= 1000
    attention(x)
    torch.testing.assert_close(attended[1][0], 1000 * attended[0][0], atol=1e-2, rtol=1e-4)


@torch.no_grad()
def test_scaling_the_value_weights_scales_the_output() -> None:
    attention = make()
    attention.out.bias.normal_()
    x = torch.randn(2, 7, 32)
    before = attention(x) - attention.out.bias
    attention.to_qkv.weight[2 * INNER :] *= 7
    torch.testing.assert_close(attention(x) - attention.out.bias, 7 * before, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("norm", ["layer", "rms"])
@torch.no_grad()
def test_norms_of_queries_and_keys_are_per_head(norm: str, attended: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    """One head's weights growing changes neither its own queries nor any other head's."""
    attention = make(Design(norm="rms" if norm == "rms" else "layer"))
    assert attention.query_norm.weight.shape == attention.key_norm.weight.shape == (12,)
    x = 5 * torch.randn(2, 7, 32)
    attention(x)
    for start in (0, INNER):
        attention.to_qkv.weight[start + 12 : start + 24] *= 100
    attention(x)
    for before, after in zip(attended[0][:2], attended[1][:2], strict=True):
        torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_queries_and_keys_have_a_norm_each() -> None:
    attention = make()
    assert attention.query_norm is not attention.key_norm
    x = torch.randn(2, 7, 32)
    before = attention(x)
    attention.key_norm.weight.zero_()
    assert not torch.allclose(attention(x), before)
    attention.key_norm.weight.fill_(1.0)
    attention.query_norm.weight.zero_()
    assert not torch.allclose(attention(x), before)


@torch.no_grad()
def test_at_the_start_attention_is_not_stuck_at_uniform(attended: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    """Which it is if the norms' scale starts at 1 / √K: logits then vary by 1 / K."""
    make(dim=256, dim_head=64)(torch.randn(4, 50, 256))
    query, key, _ = attended[0]
    logits = query @ key.transpose(-2, -1) / math.sqrt(64)
    assert 0.5 < logits.std() < 2
    assert logits.softmax(dim=-1).max(dim=-1).values.mean() > 3 / 50


@pytest.mark.parametrize("design", [Design(), PLAIN_VIT, Design(qkv_bias=True, norm="rms")])
@torch.no_grad()
def test_attention_is_its_formula_head_by_head(design: Design) -> None:
    """The projection's outputs are (query | key | value), each (head, channel)."""
    attention = make(design)
    for parameter in attention.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    x = torch.randn(2, 7, 32)
    projected = attention.to_qkv(x)
    mixed = []
    for head in range(4):
        start = 12 * head
        query, key, value = (projected[..., part + start : part + start + 12] for part in (0, INNER, 2 * INNER))
        query, key = attention.query_norm(query), attention.key_norm(key)
        mixed.append((query @ key.transpose(1, 2) / math.sqrt(12)).softmax(dim=2) @ value)
    expected = torch.cat(mixed, dim=-1) @ attention.out.weight.T + attention.out.bias
    torch.testing.assert_close(attention(x), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("design", "bias"), [(Design(), False), (Design(qkv_bias=True), True), (PLAIN_VIT, True)])
def test_only_the_input_projection_may_lack_its_bias(design: Design, bias: bool) -> None:
    attention = make(design)
    assert (attention.to_qkv.bias is not None) == bias
    assert attention.out.bias is not None


@torch.no_grad()
def test_without_positions_permuted_tokens_give_the_permuted_answer() -> None:
    attention = make()
    x, order = torch.randn(2, 7, 32), torch.randperm(7)
    torch.testing.assert_close(attention(x[:, order]), attention(x)[:, order], atol=1e-6, rtol=1e-5)


def test_the_weights_sum_to_one_over_the_keys() -> None:
    """Values that are the unit vectors make the answer the weights themselves: (query, key)."""
    query, key = 2 * torch.randn(2, 3, 9, 16), 2 * torch.randn(2, 3, 9, 16)
    for weights in (
        attend_eager(query, key, torch.eye(9).expand(2, 3, 9, 9)),
        F.scaled_dot_product_attention(query, key, torch.eye(9).expand(2, 3, 9, 9)),
        attend(query, key, torch.eye(9).expand(2, 3, 9, 9)),
    ):
        torch.testing.assert_close(weights.sum(dim=3), torch.ones(2, 3, 9))
        assert (weights.sum(dim=2) - 1).abs().max() > 0.1
        torch.testing.assert_close(weights, (query @ key.transpose(2, 3) / 4).softmax(dim=3))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-2)])
@pytest.mark.parametrize("tokens", [1, 17, 300])
def test_both_ways_give_the_same_values_and_gradients(dtype: torch.dtype, tolerance: float, tokens: int) -> None:
    inputs = [torch.randn(2, 3, tokens, 16).to(dtype) for _ in range(3)]
    towards = torch.randn(2, 3, tokens, 16).to(dtype)
    results = []
    ways: list[Any] = [attend_eager, F.scaled_dot_product_attention, attend]
    for way in ways:
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        answer = way(*leaves)
        assert answer.dtype == dtype
        results.append([answer, *torch.autograd.grad(answer, leaves, towards)])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            torch.testing.assert_close(one, two, atol=tolerance, rtol=tolerance)


def test_on_both_sides_of_the_switch_the_answer_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
        calls.append((query.dtype, query.shape[2]))
        return attend_eager(query, key, value, dropout)

    monkeypatch.setattr(module, "attend_eager", counted)
    limit = MAX_EAGER_TOKENS
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        for tokens in (limit, limit + 1):
            query, key, value = torch.randn(3, 1, 2, tokens, 8).to(dtype)
            exact = attend_eager(query.double(), key.double(), value.double())
            torch.testing.assert_close(attend(query, key, value).double(), exact, atol=tolerance, rtol=tolerance)
    assert calls == [(torch.bfloat16, limit)]


def test_dropout_falls_on_the_weights_and_keeps_their_sum_on_average() -> None:
    """Unit values show the weights: each is dropped or doubled."""
    query, key = torch.randn(2, 64, 4, 12, 8)
    unit = torch.eye(12).expand(64, 4, 12, 12)
    whole = attend_eager(query, key, unit)
    dropped = attend_eager(query, key, unit, dropout=0.5)
    kept = dropped != 0
    assert kept.float().mean().item() == pytest.approx(0.5, abs=0.02)
    torch.testing.assert_close(dropped[kept], 2 * whole[kept])
    assert dropped.sum(dim=-1).mean().item() == pytest.approx(1.0, abs=0.02)


@torch.no_grad()
def test_attention_drops_in_training_only() -> None:
    attention = Attention(replace(CONFIG, dropout=0.5))
    attention.out_dropout.p = 0.0
    x = torch.randn(2, 7, 32)
    assert not torch.equal(attention(x), attention(x))
    attention.eval()
    assert torch.equal(attention(x), attention(x))
