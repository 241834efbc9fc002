"""What is recorded is what the model does, and the model does not notice."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from megavit.config.vit import Design, Pool, ViTConfig
from megavit.explain.attention_hooks import record_attention
from megavit.explain.maps import compute_relevance
from megavit.explain.methods import Method
from megavit.model.vit import MegaVit
from tests.helpers.bundles import make_model
from tests.properties.test_model import configs, images


def state_of(model: MegaVit) -> dict[str, Any]:
    """Everything about a model that an explanation could change."""
    modules = {
        name: (id(module), type(module), module.training, len(module._forward_hooks), len(module._forward_pre_hooks))
        for name, module in model.named_modules()
    }
    weights = {
        name: (id(weight), weight.data_ptr(), weight._version, weight.requires_grad, weight.grad)
        for name, weight in model.named_parameters()
    }
    methods = {name: module.__dict__.get("forward") for name, module in model.named_modules()}
    return {"modules": modules, "weights": weights, "methods": methods}


@given(config=configs(), batch=st.integers(1, 3), differentiable=st.booleans())
def test_the_recorded_way_gives_the_logits_of_the_normal_one(
    config: ViTConfig, batch: int, differentiable: bool
) -> None:
    """In float64, so that only a true difference shows, not the rounding that a narrow norm magnifies."""
    model = MegaVit.from_config(config).double()
    x = images(config, batch, config.grid).double()
    recording = record_attention(model, x, differentiable=differentiable)
    with torch.no_grad():
        torch.testing.assert_close(recording.logits.detach(), model.eval()(x), atol=1e-8, rtol=1e-8)
    assert recording.prefix == config.num_prefix_tokens


@pytest.mark.parametrize("pool", ["cls", "mean", "cls_mean", "map"])
@torch.no_grad()
def test_in_float32_the_logits_agree_to_five_digits(pool: Pool) -> None:
    torch.manual_seed(0)
    model = MegaVit(
        image_size=32, patch_size=8, num_classes=7, dim=64, depth=3, heads=2, dim_head=32, mlp_dim=96, pool=pool
    ).eval()
    x = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(record_attention(model, x).logits, model(x), atol=1e-5, rtol=1e-5)


@given(config=configs())
def test_what_a_token_takes_from_all_sums_to_one(config: ViTConfig) -> None:
    recording = record_attention(MegaVit.from_config(config), images(config, 2, config.grid))
    tokens = config.num_prefix_tokens + config.num_patches
    assert [weights.shape for weights in recording.layers] == [(2, config.heads, tokens, tokens)] * config.depth
    assert (recording.pool is None) == (config.pool != "map")
    for weights in [*recording.layers, *([] if recording.pool is None else [recording.pool])]:
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))


def test_the_weights_are_those_of_the_dot_products() -> None:
    model = make_model(design=Design(qk_norm=False), depth=1)
    x = torch.randn(1, 3, 8, 8)
    layer: Any = model.transformer.layers[0]
    with torch.no_grad():
        query, key, _ = layer.attention.to_qkv(layer.norm(model.embed(x, (2, 2))[0]))[0].split(8, dim=1)
        expected = [(query[:, head] @ key[:, head].T / 2).softmax(dim=1) for head in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(record_attention(model, x).layers[0][0], torch.stack(expected))


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training: bool) -> None:
    model = make_model(pool="map", dropout=0.5, dim_head=4).train(training)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = model.eval()(x)
    before = state_of(model.train(training))
    for method in get_args(Method):
        compute_relevance(model, x, method=method)
    assert state_of(model) == before
    with torch.no_grad():
        assert torch.equal(model.eval()(x), expected)


@pytest.mark.parametrize("differentiable", [True, False])
def test_the_model_is_left_as_it_was_when_something_breaks_on_the_way(differentiable: bool) -> None:
    model = make_model()
    x = torch.randn(2, 3, 8, 8)

    def breaks(*_: object) -> None:
        raise RuntimeError("in the middle")

    hook = model.transformer.layers[1].register_forward_pre_hook(breaks)
    before = state_of(model)
    with pytest.raises(RuntimeError, match="in the middle"):
        record_attention(model, x, differentiable=differentiable)
    with pytest.raises(ValueError, match="must be divisible"):
        record_attention(model, torch.randn(2, 3, 9, 8), differentiable=differentiable)
    assert state_of(model) == before
    hook.remove()
    assert model(x).requires_grad


@pytest.mark.parametrize("method", get_args(Method))
def test_frozen_weights_can_be_explained(method: Method) -> None:
    model, x = make_model(pool="map"), torch.randn(2, 3, 8, 8)
    expected = compute_relevance(model, x, method=method)
    torch.testing.assert_close(compute_relevance(model.requires_grad_(False), x, method=method), expected)


@pytest.mark.parametrize("method", get_args(Method))
def test_whoever_is_in_inference_mode_or_without_gradients_gets_the_same(method: Method) -> None:
    model, x = make_model(), torch.randn(2, 3, 8, 8)
    expected = compute_relevance(model, x, method=method)
    with torch.no_grad():
        assert torch.equal(compute_relevance(model, x, method=method), expected)
    with torch.inference_mode():
        born_there = make_model()
        assert torch.equal(compute_relevance(born_there, x.clone(), method=method), expected)
    assert torch.equal(compute_relevance(born_there, x, method=method), expected)
    assert not compute_relevance(model, x.requires_grad_(), method=method).requires_grad


@pytest.mark.parametrize("method", get_args(Method))
def test_other_threads_may_use_the_model_meanwhile(method: Method) -> None:
    model, x = make_model().eval(), torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        logits = model(x)
    expected = compute_relevance(model, x, method=method)

    def one(number: int) -> Tensor:
        if number % 2:
            with torch.no_grad():
                return model(x)
        return compute_relevance(model, x, method=method)

    with ThreadPoolExecutor(4) as pool:
        for number, found in enumerate(pool.map(one, range(40))):
            assert torch.equal(found, logits if number % 2 else expected)
