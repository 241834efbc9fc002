"""From tokens to one vector an image."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from megavit.config.vit import Design, Pool, ViTConfig
from megavit.model.init import initialize
from megavit.model.pooling import POOLS, AttentionPool

CONFIG = ViTConfig(
    image_size=8, patch_size=4, num_classes=5, dim=16, depth=1, heads=4, mlp_dim=24, design=Design(norm_bias=True)
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def make(pool: Pool) -> nn.Module:
    module = POOLS[pool](replace(CONFIG, pool=pool))
    initialize(module, depth=1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return module


def test_cls_takes_the_first_prefix_token() -> None:
    prefix, patches = torch.randn(2, 3, 16), torch.randn(2, 6, 16)
    assert torch.equal(make("cls")(prefix, patches), prefix[:, 0])


def test_mean_takes_the_patches_alone() -> None:
    prefix, patches = torch.randn(2, 3, 16), torch.randn(2, 6, 16)
    torch.testing.assert_close(make("mean")(prefix, patches), sum(patches.unbind(1)) / 6)


def test_cls_mean_takes_the_first_prefix_token_then_the_mean_of_the_patches_alone() -> None:
    prefix, patches = torch.randn(2, 3, 16), torch.randn(2, 6, 16)
    pooled = make("cls_mean")(prefix, patches)
    assert torch.equal(pooled[:, :16], prefix[:, 0])
    torch.testing.assert_close(pooled[:, 16:], sum(patches.unbind(1)) / 6)


@pytest.mark.parametrize("pool", ["mean", "map"])
@torch.no_grad()
def test_mean_and_map_ignore_class_token_and_registers(pool: Pool) -> None:
    module, patches = make(pool), torch.randn(2, 6, 16)
    expected = module(torch.randn(2, 0, 16), patches)
    assert torch.equal(module(1000 * torch.randn(2, 4, 16), patches), expected)


@torch.no_grad()
def test_map_is_its_formula() -> None:
    pool = make("map")
    assert isinstance(pool, AttentionPool)
    patches = torch.randn(2, 6, 16)
    query = pool.to_query(pool.query)
    key, value = pool.to_key_value(patches).split(16, dim=2)
    mixed = []
    for head in range(4):
        of_head = slice(4 * head, 4 * head + 4)
        weights = (key[:, :, of_head] @ query[of_head] / 2).softmax(dim=1)
        mixed.append((weights[:, :, None] * value[:, :, of_head]).sum(dim=1))
    pooled = pool.out(torch.cat(mixed, dim=1))
    hidden = pool.mlp_into(pool.norm(pooled))
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    torch.testing.assert_close(pool(patches[:, :0], patches), pooled + pool.mlp_out(hidden), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pool", ["mean", "cls_mean", "map"])
@torch.no_grad()
def test_the_order_of_the_patches_does_not_matter(pool: Pool) -> None:
    module, prefix, patches = make(pool), torch.randn(2, 1, 16), torch.randn(2, 6, 16)
    shuffled = patches[:, torch.randperm(6)]
    torch.testing.assert_close(module(prefix, shuffled), module(prefix, patches), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pool", POOLS)
@torch.no_grad()
def test_each_image_is_pooled_by_itself(pool: Pool) -> None:
    module, prefix, patches = make(pool), torch.randn(3, 2, 16), torch.randn(3, 6, 16)
    together = module(prefix, patches)
    assert together.shape == (3, replace(CONFIG, pool=pool).pooled_dim)
    torch.testing.assert_close(module(prefix[1:2], patches[1:2])[0], together[1], atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_map_of_all_tokens_takes_those_before_the_patches_for_patches() -> None:
    alone = make("map")
    both = AttentionPool(replace(CONFIG, pool="map", design=replace(CONFIG.design, pool_prefix=True)))
    both.load_state_dict(alone.state_dict())
    prefix, patches = torch.randn(2, 3, 16), torch.randn(2, 6, 16)
    assert torch.equal(both(prefix, patches), alone(prefix, torch.cat([prefix, patches], dim=1)))


@torch.no_grad()
def test_map_may_have_other_heads_than_the_layers() -> None:
    two = AttentionPool(replace(CONFIG, pool="map", heads=2))
    of_two = AttentionPool(replace(CONFIG, pool="map", design=replace(CONFIG.design, pool_heads=2)))
    for pool in (two, of_two):
        torch.manual_seed(0)
        initialize(pool, depth=1)
    prefix, patches = torch.randn(2, 3, 16), torch.randn(2, 6, 16)
    assert torch.equal(of_two(prefix, patches), two(prefix, patches))
