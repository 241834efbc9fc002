"""Sizes that cannot be are refused by name; those that can have the right grid and token counts."""

import json
from dataclasses import FrozenInstanceError, asdict, fields, replace
from typing import Any

import pytest

from megavit.config.vit import PLAIN_VIT, ZETA, Design, ViTConfig, check_divisible, pair
from megavit.errors import ConfigError

GOOD: dict[str, Any] = {
    "image_size": (8, 12),
    "patch_size": 4,
    "num_classes": 5,
    "dim": 32,
    "depth": 2,
    "heads": 4,
    "mlp_dim": 48,
    "dim_head": 12,
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_size": (30, 32)}, ["height, 30", "patch's height, 4", "28 or 32"]),
        ({"image_size": (32, 33)}, ["width, 33", "patch's width, 4", "32 or 36"]),
        ({"image_size": 3}, ["height, 3", "nearest such value is 4"]),
        ({"image_size": 64, "patch_size": (16, 48)}, ["width, 64", "patch's width, 48", "48 or 96"]),
        ({"image_size": 0}, ["image_size", "at least 1", "got 0"]),
        ({"image_size": -8}, ["image_size", "got -8"]),
        ({"image_size": 8.0}, ["image_size", "got 8.0"]),
        ({"image_size": (8, 8.0)}, ["image_size", "got 8.0"]),
        ({"image_size": True}, ["image_size", "got True"]),
        ({"image_size": "88"}, ["image_size", "(height, width)", "'88'"]),
        ({"image_size": (8,)}, ["image_size", "(height, width)", "(8,)"]),
        ({"image_size": (8, 8, 3)}, ["image_size", "(height, width)", "(8, 8, 3)"]),
        ({"image_size": None}, ["image_size", "(height, width)", "None"]),
        ({"patch_size": 0}, ["patch_size", "at least 1", "got 0"]),
        ({"patch_size": (4, False)}, ["patch_size", "got False"]),
        ({"patch_size": {4, 2}}, ["patch_size", "(height, width)"]),
        ({"num_classes": -1}, ["num_classes", "at least 0", "got -1"]),
        ({"num_classes": 10.0}, ["num_classes", "got 10.0"]),
        ({"num_classes": True}, ["num_classes", "got True"]),
        ({"dim": 0}, ["dim must", "at least 1", "got 0"]),
        ({"dim": 32.0}, ["dim must", "got 32.0"]),
        ({"depth": 0}, ["depth", "at least 1", "got 0"]),
        ({"depth": True}, ["depth", "got True"]),
        ({"heads": -2}, ["heads", "at least 1", "got -2"]),
        ({"heads": "4"}, ["heads", "got '4'"]),
        ({"mlp_dim": 0}, ["mlp_dim", "at least 1", "got 0"]),
        ({"channels": 0}, ["channels", "at least 1", "got 0"]),
        ({"channels": 3.0}, ["channels", "got 3.0"]),
        ({"dim_head": 0}, ["dim_head", "at least 1", "got 0"]),
        ({"dim_head": False}, ["dim_head", "got False"]),
        ({"pool": "max"}, ["pool", "cls, mean, cls_mean, map", "'max'"]),
        ({"pool": None}, ["pool", "cls, mean, cls_mean, map", "None"]),
        ({"dropout": 1}, ["dropout", "[0, 1)", "got 1"]),
        ({"dropout": -0.1}, ["dropout", "[0, 1)", "got -0.1"]),
        ({"dropout": float("nan")}, ["dropout", "[0, 1)", "got nan"]),
        ({"emb_dropout": 1.5}, ["emb_dropout", "[0, 1)", "got 1.5"]),
        ({"emb_dropout": True}, ["emb_dropout", "got True"]),
        ({"design": "parallel"}, ["design", "megavit.Design", "'parallel'"]),
        ({"design": None}, ["design", "megavit.Design", "None"]),
        ({"design": Design(positions="rope"), "dim_head": 10}, ["rope", "dim_head", "by 4", "10"]),
        ({"design": Design(positions="learned_rope"), "dim_head": 10}, ["learned_rope", "dim_head", "by 4", "10"]),
        ({"design": Design(positions="sincos"), "dim": 30}, ["sincos", "dim", "by 4", "30"]),
        ({"pool": "map", "heads": 5}, ["map", "32", "divisible by 5"]),
        ({"pool": "map", "design": Design(pool_heads=5)}, ["map", "32", "divisible by 5"]),
        ({"pool": "cls_mean", "design": Design(final_norm="pooled")}, ["cls_mean", '"tokens"', "got 'pooled'"]),
        ({"design": Design(positions="rope_grid"), "dim_head": 10}, ["rope_grid", "dim_head", "by 4", "10"]),
    ],
)
def test_sizes_that_cannot_be_are_refused_by_name(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        ViTConfig(**GOOD | changes)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"block": "sandwich"}, ["block", "parallel, serial", "'sandwich'"]),
        ({"norm": "group"}, ["norm", "layer, rms, batch", "'group'"]),
        ({"mlp": "relu"}, ["mlp", "gelu, swiglu, relu2", "'relu'"]),
        ({"positions": "none"}, ["positions", "learned, sincos, rope", "'none'"]),
        ({"qk_norm": 1}, ["qk_norm", "true or false", "got 1"]),
        ({"qkv_bias": "no"}, ["qkv_bias", "true or false", "got 'no'"]),
        ({"norm_bias": None}, ["norm_bias", "true or false", "got None"]),
        ({"registers": -1}, ["registers", "at least 0", "got -1"]),
        ({"registers": True}, ["registers", "got True"]),
        ({"pool_heads": 0}, ["pool_heads", "at least 1", "got 0"]),
        ({"pool_prefix": 1}, ["pool_prefix", "true or false", "got 1"]),
        ({"layer_scale": 0}, ["layer_scale", "above 0", "got 0"]),
        ({"layer_scale": True}, ["layer_scale", "got True"]),
        ({"drop_path": 1.0}, ["drop_path", "[0, 1)", "got 1.0"]),
        ({"patch_drop": -0.5}, ["patch_drop", "[0, 1)", "got -0.5"]),
    ],
)
def test_parts_that_cannot_be_are_refused_by_name(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Design(**changes)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("cls", [ViTConfig, Design])
def test_an_unknown_setting_is_refused(cls: type) -> None:
    with pytest.raises(TypeError, match="heights"):
        cls(**(GOOD if cls is ViTConfig else {}), heights=3)


def test_the_default_parts_are_those_of_vit_22b() -> None:
    assert asdict(Design()) == {
        "block": "parallel",
        "qk_norm": True,
        "qkv_bias": False,
        "norm": "layer",
        "norm_bias": False,
        "norm_eps": 1e-6,
        "pre_norm": False,
        "patch_norm": False,
        "final_norm": "tokens",
        "mlp": "gelu",
        "attention_out_norm": False,
        "mlp_out_norm": False,
        "positions": "learned",
        "prefix_positions": "class",
        "pool_heads": None,
        "pool_prefix": False,
        "stem": "patch",
        "registers": 0,
        "layer_scale": None,
        "drop_path": 0.0,
        "patch_drop": 0.0,
    }


def test_the_plain_vit_differs_from_the_default_in_four_parts() -> None:
    changed = {f.name for f in fields(Design) if getattr(PLAIN_VIT, f.name) != getattr(Design(), f.name)}
    assert changed == {"block", "qk_norm", "qkv_bias", "norm_bias"}


def test_one_number_means_a_square() -> None:
    square = ViTConfig(**GOOD | {"image_size": 32})
    assert square == ViTConfig(**GOOD | {"image_size": (32, 32)}) == ViTConfig(**GOOD | {"image_size": [32, 32]})
    assert hash(square) == hash(ViTConfig(**GOOD | {"image_size": [32, 32]}))
    assert square != ViTConfig(**GOOD | {"image_size": (32, 36)})


def test_a_config_is_frozen_and_hashable() -> None:
    config = ViTConfig(**GOOD)
    assert {config: 1}[ViTConfig(**GOOD)] == 1
    with pytest.raises(FrozenInstanceError):
        config.dim = 64  # pyrefly: ignore[read-only]
    with pytest.raises(FrozenInstanceError):
        config.design.registers = 4  # pyrefly: ignore[read-only]


def test_a_list_given_is_not_shared() -> None:
    sides = [8, 12]
    config = ViTConfig(**GOOD | {"image_size": sides})
    sides[0] = 80
    assert config.image_hw == (8, 12)


@pytest.mark.parametrize("patch_size", [(16, 32), [16, 32]])
def test_an_oblong_grid_counts_rows_by_height_and_columns_by_width(patch_size: Any) -> None:
    config = ViTConfig(**GOOD | {"image_size": (32, 160), "patch_size": patch_size})
    assert config.patch_hw == (16, 32)
    assert config.grid == (2, 5)
    assert config.num_patches == 10


@pytest.mark.parametrize(
    ("pool", "registers", "count"),
    [("cls", 0, 1), ("cls", 4, 5), ("mean", 0, 0), ("cls_mean", 0, 1), ("cls_mean", 2, 3), ("map", 3, 3)],
)
def test_prefix_tokens_are_the_class_token_and_the_registers(pool: Any, registers: int, count: int) -> None:
    config = ViTConfig(**GOOD | {"pool": pool, "design": Design(registers=registers)})
    assert config.num_prefix_tokens == count


@pytest.mark.parametrize(("pool", "width"), [("cls", 32), ("mean", 32), ("cls_mean", 64), ("map", 32)])
def test_the_pooled_vector_of_two_parts_is_twice_as_wide(pool: Any, width: int) -> None:
    assert ViTConfig(**GOOD | {"pool": pool}).pooled_dim == width


def test_a_config_survives_plain_values() -> None:
    config = ViTConfig(**GOOD | {"design": PLAIN_VIT, "pool": "map"})
    plain = json.loads(json.dumps(asdict(config)))
    assert ViTConfig(**plain | {"design": Design(**plain["design"])}) == config


def test_replace_checks_again() -> None:
    with pytest.raises(ConfigError, match="width, 13"):
        replace(ViTConfig(**GOOD), image_size=(8, 13))


def test_pair_names_what_it_was_asked_for() -> None:
    assert pair("crop", 7) == (7, 7)
    assert pair("crop", [7, 9]) == (7, 9)
    letters: Any = "79"
    with pytest.raises(ConfigError, match="crop must be an integer or a"):
        pair("crop", letters)


def test_the_height_is_checked_by_the_patch_height() -> None:
    check_divisible((32, 48), (16, 24))
    with pytest.raises(ConfigError, match="height, 24"):
        check_divisible((24, 16), (16, 8))


@pytest.mark.parametrize(
    "changes",
    [
        {"qk_norm": True},
        {"qkv_bias": True},
        {"norm": "rms"},
        {"norm_bias": False},
        {"positions": "rope"},
        {"layer_scale": 0.1},
        {"drop_path": 0.1},
    ],
)
def test_the_block_of_zetascale_has_no_choice_of_parts(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"zetascale, requires {next(iter(changes))} "):
        replace(ZETA, **changes)
