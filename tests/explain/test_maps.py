"""The maps are those of the papers, whatever the model's parts, and high where the model looks."""

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from megavit.config.vit import PLAIN_VIT, ZETA, Design, Pool, ViTConfig
from megavit.errors import ConfigError
from megavit.explain import maps as module
from megavit.explain.attention_hooks import record_attention
from megavit.explain.maps import compute_relevance, gradient_relevance, rollout
from megavit.explain.methods import Method
from megavit.model.pos_embed import LearnedPositions
from megavit.model.vit import MegaVit
from tests.helpers.brightness_model import BRIGHT, COLUMNS, ROWS, make_bright_images, make_brightness_model
from tests.helpers.bundles import make_model
from tests.properties.test_model import configs, images

POOLS: tuple[Pool, ...] = ("cls", "mean", "cls_mean", "map")
METHODS: tuple[Method, ...] = get_args(Method)


@given(config=configs(), batch=st.integers(1, 3), grid=st.tuples(st.integers(1, 4), st.integers(1, 4)))
@pytest.mark.parametrize("method", METHODS)
def test_every_map_is_shares_of_the_patches(
    method: Method, config: ViTConfig, batch: int, grid: tuple[int, int]
) -> None:
    config = replace(config, num_classes=3)
    found = compute_relevance(MegaVit.from_config(config), images(config, batch, grid), method=method)
    assert found.shape == (batch, *grid) and found.dtype == torch.float32
    assert found.isfinite().all() and (found >= 0).all()
    total = found.sum(dim=(1, 2))
    assert (((total - 1).abs() < 1e-5) | (total == 0)).all()
    assert method != "rollout" or (total > 0).all()


@given(config=configs())
def test_rollout_loses_nothing_and_invents_nothing(config: ViTConfig) -> None:
    found = rollout(record_attention(MegaVit.from_config(config), images(config, 2, config.grid)), config.pool)
    assert found.shape == (2, config.num_prefix_tokens + config.num_patches)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2))


@pytest.mark.parametrize("pool", POOLS)
@torch.no_grad()
def test_rollout_is_the_product_of_the_papers_matrices(pool: Pool) -> None:
    model = make_model(pool=pool, depth=3, design=Design(registers=2))
    recording = record_attention(model, torch.randn(2, 3, 8, 12))
    tokens = recording.layers[0].shape[-1]
    pooled = recording.logits.new_zeros(2, 0) if recording.pool is None else recording.pool.mean(dim=1)
    product = torch.eye(tokens)
    for weights in recording.layers:
        product = (0.5 * weights.mean(dim=1) + 0.5 * torch.eye(tokens)) @ product
    patches = product[:, tokens - 6 :]
    expected = {
        "cls": lambda: product[:, 0],
        "mean": lambda: patches.mean(dim=1),
        "cls_mean": lambda: (product[:, 0] + patches.mean(dim=1)) / 2,
        "map": lambda: (pooled[:, None] @ patches)[:, 0],
    }
    torch.testing.assert_close(rollout(recording, pool), expected[pool]())


@pytest.mark.parametrize("pool", POOLS)
def test_relevance_is_the_product_of_the_papers_matrices(pool: Pool) -> None:
    model = make_model(pool=pool, depth=3, design=Design(block="serial", registers=1))
    x, target = torch.randn(2, 3, 8, 12), torch.tensor([2, 0])
    recording = record_attention(model, x, differentiable=True)
    weights = [*recording.layers, *([] if recording.pool is None else [recording.pool])]
    chosen = recording.logits[0, 2] + recording.logits[1, 0]
    gradients = torch.autograd.grad(chosen, weights, retain_graph=True)
    positive = [(a * g).clamp(min=0).mean(dim=1).detach() for a, g in zip(weights, gradients, strict=True)]
    tokens = recording.layers[0].shape[-1]
    carried = torch.eye(tokens).expand(2, -1, -1)
    for layer in positive[:3]:
        carried = carried + layer @ carried
    patches = carried[:, tokens - 6 :]
    expected = {
        "cls": lambda: carried[:, 0],
        # Of the mean, less what every patch has of itself.
        "mean": lambda: (patches - torch.eye(tokens)[tokens - 6 :]).mean(dim=1),
        # The gradients of the patches' rows are already those of their mean.
        "cls_mean": lambda: carried[:, 0] - torch.eye(tokens)[0] + (patches - torch.eye(tokens)[tokens - 6 :]).sum(1),
        "map": lambda: (positive[3][:, None] @ patches)[:, 0],
    }
    torch.testing.assert_close(gradient_relevance(recording, pool, target), expected[pool]())


@pytest.mark.parametrize("pool", POOLS)
def test_the_gradients_are_those_of_the_answer(pool: Pool) -> None:
    """What mean pooling takes from each patch, and each weight of the last layer, moves the logit as they say."""
    model = make_model(pool=pool).double()
    x = torch.randn(1, 3, 8, 8).double()
    recording = record_attention(model, x, differentiable=True)
    weights = recording.layers[-1]
    (gradient,) = torch.autograd.grad(recording.logits[0, 1], [weights])
    layer: Any = model.transformer.layers[-1].attention
    head, row, column, step = 1, 0, 2, 1e-5
    moved = weights.detach().clone()
    moved[0, head, row, column] += step

    def with_weights(changed: Tensor) -> Tensor:
        def attention(given: Tensor, *_: object) -> Tensor:
            value = layer.to_qkv(given).unflatten(-1, (3, 2, -1))[:, :, 2].transpose(1, 2)
            return layer.out((changed @ value).transpose(1, 2).flatten(2))

        original, layer.forward = layer.forward, attention
        try:
            with torch.no_grad():
                return model.eval()(x)[0, 1]
        finally:
            layer.forward = original

    difference = (with_weights(moved) - with_weights(weights.detach())) / step
    torch.testing.assert_close(difference, gradient[0, head, row, column], atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("design", [PLAIN_VIT, Design(block="parallel", qk_norm=False, qkv_bias=True, registers=2)])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pool", POOLS)
def test_the_map_is_highest_at_the_only_patch_that_the_model_looks_at(
    pool: Pool, method: Method, design: Design
) -> None:
    model = make_brightness_model(pool, design)
    places = tuple(range(ROWS * COLUMNS))
    x = make_bright_images(*places)
    with torch.no_grad():
        assert (model(x)[:, BRIGHT] > 0.5).all()
    found = compute_relevance(model, x, torch.full((len(places),), BRIGHT), method).flatten(1)
    assert found.argmax(dim=1).tolist() == list(places)
    if pool == "cls" and method != "rollout":
        assert (found.amax(dim=1) > 0.9).all()


@pytest.mark.parametrize("pool", POOLS)
def test_where_nothing_speaks_for_an_answer_its_map_is_empty(pool: Pool) -> None:
    model = make_brightness_model(pool, PLAIN_VIT)
    assert torch.equal(
        compute_relevance(model, make_bright_images(3), torch.tensor([1 - BRIGHT])), torch.zeros(1, ROWS, COLUMNS)
    )


@pytest.mark.parametrize("design", [Design(registers=1), PLAIN_VIT, ZETA], ids=["parallel", "serial", "zeta"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pool", POOLS)
def test_without_positions_permuted_patches_have_the_permuted_map(pool: Pool, method: Method, design: Design) -> None:
    model = make_model(pool=pool, design=design).double()
    assert isinstance(model.positions, LearnedPositions)
    model.positions.table.data.zero_()
    patches = torch.randn(1, 6, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    order = torch.tensor([4, 0, 5, 2, 1, 3])

    def image(pieces: Tensor) -> Tensor:
        return pieces.unflatten(1, (2, 3)).permute(0, 3, 1, 4, 2, 5).reshape(1, 3, 8, 12)

    target = torch.arange(3)
    found = compute_relevance(model, image(patches).expand(3, -1, -1, -1), target, method).flatten(1)
    assert found.std(dim=1).amax() > 1e-4
    permuted = compute_relevance(model, image(patches[:, order]).expand(3, -1, -1, -1), target, method).flatten(1)
    torch.testing.assert_close(permuted, found[:, order])


def test_a_map_is_of_the_answer_asked_for_and_that_of_rollout_of_none() -> None:
    model, x = make_model(), torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        likeliest = model(x).argmax(dim=1)
    methods: tuple[Method, ...] = ("integrated_gradients", "relevance")
    for method in methods:
        by_class = [compute_relevance(model, x, torch.full((3,), k), method) for k in range(3)]
        assert not torch.allclose(by_class[0], by_class[1]) and not torch.allclose(by_class[1], by_class[2])
        assert torch.equal(compute_relevance(model, x, method=method), compute_relevance(model, x, likeliest, method))
    one, other = (compute_relevance(model, x, torch.full((3,), k), "rollout") for k in range(2))
    assert torch.equal(one, other)


@pytest.mark.parametrize("method", METHODS)
def test_an_image_has_the_same_map_alone_in_a_batch_and_in_parts_of_it(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x, target = make_model(), torch.randn(5, 3, 8, 8), torch.tensor([0, 1, 2, 1, 0])
    expected = compute_relevance(model, x, target, method)
    torch.testing.assert_close(compute_relevance(model, x[3:4], target[3:4], method)[0], expected[3])
    monkeypatch.setattr(module, "_MAX_ATTENTION_ELEMENTS", 1)
    torch.testing.assert_close(compute_relevance(model, x, target, method), expected)
    assert compute_relevance(model, x[:0], method=method).shape == (0, 2, 2)


def test_what_cannot_be_explained_is_refused() -> None:
    model, x = make_model(), torch.randn(2, 3, 8, 8)
    for target in (torch.tensor([0, 3]), torch.tensor([-1, 0]), torch.tensor([0]), torch.tensor([0.0, 1.0])):
        with pytest.raises(ConfigError, match="target must be"):
            compute_relevance(model, x, target)
    method: Method = "saliency"  # pyrefly: ignore[bad-assignment]
    with pytest.raises(ConfigError, match="method must be one of integrated_gradients, relevance, rollout"):
        compute_relevance(model, x, method=method)
    with pytest.raises(ValueError, match="must be divisible"):
        compute_relevance(model, torch.randn(2, 3, 9, 8))
    headless = make_model(0)
    with pytest.raises(ConfigError, match="no classifier"):
        compute_relevance(headless, x)
    assert compute_relevance(headless, x, method="rollout").shape == (2, 2, 2)
