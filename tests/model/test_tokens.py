"""Prefix tokens come first, in order; dropped patches take their rotations with them."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from megavit.config.vit import Design, Pool, Positions, ViTConfig
from megavit.model.embedding.patch_embed import PatchDrop, PrefixTokens
from megavit.model.pos_embed import Rotation

CONFIG = ViTConfig(image_size=8, patch_size=4, num_classes=5, dim=16, depth=1, heads=2, mlp_dim=24)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def make(pool: Pool, **design: Any) -> PrefixTokens:
    tokens = PrefixTokens(replace(CONFIG, pool=pool, design=Design(**design)))
    with torch.no_grad():
        for parameter in tokens.parameters():
            parameter.normal_()
    return tokens


def test_class_token_then_registers_then_patches() -> None:
    tokens, patches = make("cls", registers=2), torch.randn(3, 4, 16)
    x = tokens(patches)
    assert x.shape == (3, 7, 16)
    for image in x:
        assert tokens.class_token is not None and tokens.class_position is not None and tokens.registers is not None
        torch.testing.assert_close(image[0], tokens.class_token + tokens.class_position)
        torch.testing.assert_close(image[1:3], tokens.registers)
    assert torch.equal(x[:, 3:], patches)


@pytest.mark.parametrize("pool", ["cls", "cls_mean"])
def test_a_model_that_pools_by_the_class_token_has_it_before_its_registers(pool: Pool) -> None:
    names = [name for name, _ in make(pool, registers=2).named_parameters()]
    assert names == ["class_token", "class_position", "registers"]


@pytest.mark.parametrize("pool", ["mean", "map"])
def test_only_a_model_that_pools_by_it_has_a_class_token(pool: Pool) -> None:
    patches = torch.randn(3, 4, 16)
    assert make(pool)(patches) is patches
    tokens = make(pool, registers=2)
    assert [name for name, _ in tokens.named_parameters()] == ["registers"]
    assert tokens(patches).shape == (3, 6, 16)


@pytest.mark.parametrize(
    ("positions", "has"), [("learned", True), ("sincos", False), ("rope", False), ("learned_rope", True)]
)
def test_only_learned_positions_give_the_class_token_one(positions: Positions, has: bool) -> None:
    tokens = make("cls", positions=positions)
    assert (tokens.class_position is not None) == has
    assert tokens(torch.randn(3, 4, 16)).shape == (3, 5, 16)


def test_prefix_tokens_take_the_dtype_of_the_patches() -> None:
    assert make("cls", registers=2)(torch.randn(3, 4, 16).bfloat16()).dtype == torch.bfloat16


def numbered(batch: int, count: int) -> torch.Tensor:
    """Patches that carry their number in every channel: (B, N, 16)."""
    return torch.arange(count, dtype=torch.float32)[None, :, None].expand(batch, -1, 16)


@pytest.mark.parametrize(("share", "kept"), [(0.25, 15), (0.5, 10), (0.72, 6), (0.73, 5), (0.99, 1)])
def test_patch_drop_keeps_the_rounded_share_and_at_least_one(share: float, kept: int) -> None:
    patches, _ = PatchDrop(share)(numbered(4, 20), None)
    assert patches.shape == (4, kept, 16)


def test_patch_drop_keeps_each_patch_at_most_once_unchanged_and_another_choice_for_each_image() -> None:
    patches, _ = PatchDrop(0.5)(numbered(4, 20), None)
    assert torch.equal(patches, patches[:, :, :1].expand_as(patches))
    chosen = [frozenset(image.tolist()) for image in patches[:, :, 0]]
    assert all(len(numbers) == 10 and numbers <= set(range(20)) for numbers in chosen)
    assert len(set(chosen)) > 1


def test_patch_drop_is_fair() -> None:
    patches, _ = PatchDrop(0.75)(numbered(4000, 8), None)
    share = torch.bincount(patches[:, :, 0].flatten().long(), minlength=8) / 4000
    torch.testing.assert_close(share, torch.full((8,), 0.25), atol=0.04, rtol=0)


def test_rotations_follow_their_patches() -> None:
    angles = torch.arange(20.0)[:, None].expand(20, 8)
    patches, rotation = PatchDrop(0.5)(numbered(4, 20), Rotation(angles, -angles))
    assert rotation is not None
    assert rotation.cos.shape == (4, 1, 10, 8)
    assert torch.equal(rotation.cos[:, 0], patches[:, :, :8])
    assert torch.equal(rotation.sin[:, 0], -patches[:, :, :8])


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_patch_drop_does_nothing_outside_training(share: float) -> None:
    patches, rotation = numbered(4, 20), Rotation(torch.ones(20, 8), torch.zeros(20, 8))
    assert PatchDrop(share).eval()(patches, rotation) == (patches, rotation)
    assert PatchDrop(0.0)(patches, rotation) == (patches, rotation)
