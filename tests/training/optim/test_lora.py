import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.config.recipe import OptimizerRecipe
from megavit.config.vit import PLAIN_VIT, Design
from megavit.model.block import ParallelBlock
from megavit.model.vit import MegaVit
from megavit.training.optim.lora import LEARNING_RATE_FACTORS, add_lora, merge_lora, scale_learning_rate, unfreeze
from tests.helpers.bundles import make_model

DESIGNS = [Design(), Design(mlp="swiglu"), replace(PLAIN_VIT, layer_scale=0.5), Design(positions="rope", mlp="relu2")]


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def to_qkv(model: MegaVit) -> Any:
    """Of the first layer."""
    block = model.transformer.layers[0]
    assert isinstance(block, ParallelBlock)
    return block.attention.to_qkv


def move(model: torch.nn.Module, seed: int) -> None:
    """Give every addition random factors, as training would."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith((".up", ".down")):
                parameter.normal_(0, 0.3, generator=random)


@given(st.sampled_from(DESIGNS), st.integers(1, 5), st.integers(0, 9))
def test_merged_it_answers_as_before_and_is_an_ordinary_model(design, rank, seed):
    model = make_model(design=design, seed=seed).eval()
    plain = copy.deepcopy(model)
    add_lora(model, rank)
    assert torch.equal(model(images()), plain(images()))  # the product starts at zero
    move(model, seed)
    moved = model(images())
    assert not torch.allclose(moved, plain(images()), atol=1e-3)
    merged = merge_lora(model).eval()
    torch.testing.assert_close(merged(images()), moved, rtol=1e-4, atol=1e-4)
    assert list(merged.state_dict()) == list(plain.state_dict()) and merged.config == plain.config
    assert all(parameter.requires_grad for parameter in merged.parameters())
    assert torch.equal(model(images()), moved)  # which is left as it was


def test_query_key_and_value_have_factors_of_their_own():
    model = make_model()
    before = to_qkv(model).weight.detach().clone()
    add_lora(model, 2)
    factors = to_qkv(model).parametrizations.weight[0]
    assert factors.down.shape == (3, 2, 8) and factors.up.shape == (3, 8, 2)
    with torch.no_grad():
        factors.up[1] = 1.0
    query, key, value = (to_qkv(merge_lora(model)).weight - before).chunk(3)
    assert not query.any() and not value.any()
    assert torch.linalg.matrix_rank(key) == 1  # all rows of `up` alike


def test_only_the_additions_and_the_head_learn():
    model = make_model(design=Design(mlp="swiglu"))
    before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    add_lora(model, 2)
    free = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name in free if not name.endswith((".up", ".down"))} == {"mlp_head.weight", "mlp_head.bias"}
    assert len(free) == 2 + 2 * 4 * 2  # both factors of four matrices in two layers
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1)
    for _ in range(2):  # the first step moves `up` alone
        model(images()).square().sum().backward()
        optimizer.step()
    changed = {name for name, tensor in merge_lora(model).named_parameters() if not torch.equal(tensor, before[name])}
    matrices = ("to_qkv.weight", "attention.out.weight", "mlp.into.weight", "mlp.out.weight")
    assert changed == {name for name in before if name.endswith(matrices)} | {"mlp_head.weight", "mlp_head.bias"}


def test_merging_what_has_no_additions_changes_nothing():
    model = make_model()
    merged = merge_lora(model).state_dict()
    assert all(torch.equal(merged[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("rank", [1, 8])
def test_an_addition_is_small_beside_the_matrix(rank):
    model = make_model(dim=64)
    add_lora(model, rank)
    layer = to_qkv(model).parametrizations.weight
    added = sum(p.numel() for p in layer[0].parameters())
    assert added == 3 * rank * (64 + 8)


@pytest.mark.parametrize("depth", [1, 2, 4, 5, 8])
def test_last_frees_the_last_quarter_of_the_layers_and_what_follows_them(depth):
    model = make_model(depth=depth, pool="map")
    unfreeze(model, "last", rank=1)
    free = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} - {"transformer"}
    assert free == {"norm", "pool", "mlp_head"}
    layers = [all(p.requires_grad for p in layer.parameters()) for layer in model.transformer.layers]
    assert layers == [False] * (depth - math.ceil(depth / 4)) + [True] * math.ceil(depth / 4)
    assert not any(
        p.requires_grad for layer in model.transformer.layers[: layers.index(True)] for p in layer.parameters()
    )


def test_all_frees_everything_even_what_was_frozen():
    model = make_model()
    model.requires_grad_(False)
    unfreeze(model, "all", rank=1)
    assert all(p.requires_grad for p in model.parameters())


def test_a_methods_rate_follows_the_recipes_and_low_rank_additions_learn_alike_in_every_layer():
    recipe = OptimizerRecipe(learning_rate=2e-3, layer_decay=0.5)
    assert scale_learning_rate(recipe, "all") == replace(recipe, learning_rate=2e-3 * LEARNING_RATE_FACTORS["all"])
    lora = scale_learning_rate(recipe, "lora")
    assert lora.learning_rate == 2e-3 * LEARNING_RATE_FACTORS["lora"] and lora.layer_decay == 1
