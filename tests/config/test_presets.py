"""The presets are the models of their papers: their parameters are counted, exactly."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from megavit.config.presets import PRESETS, preset
from megavit.config.vit import PLAIN_VIT, Design, ViTConfig
from megavit.errors import ConfigError
from megavit.model.vit import MegaVit

# name -> (mean-pooled body without head, the model as published)
PUBLISHED = {
    "Ti": (5_524_032, 5_717_416),
    "S": (21_664_896, 22_050_664),
    "B": (85_797_120, 86_567_656),
    "L": (303_299_584, 304_326_632),
    "So400m": (412_442_352, 427_680_704),
    "H": (630_762_240, 630_764_800),
    "g": (1_011_199_616, 1_012_611_432),
    "G": (1_842_772_352, 1_844_440_680),
    "e": (3_805_417_728, None),
}


def on_meta(config: ViTConfig) -> MegaVit:
    with torch.device("meta"):
        return MegaVit.from_config(config)


def count(config: ViTConfig) -> int:
    return sum(parameter.numel() for parameter in on_meta(config).parameters())


def body(dim: int, depth: int, mlp_dim: int, patch: int, patches: int) -> int:
    """Parameters of a serial, mean-pooled ViT with all biases and no head."""
    layers = depth * (4 * dim**2 + 2 * dim * mlp_dim + 9 * dim + mlp_dim)
    return layers + (3 * patch**2 + 1) * dim + patches * dim + 2 * dim


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_body_has_the_published_number_of_parameters(name: str) -> None:
    row = PRESETS[name]
    config = replace(preset(name, num_classes=0), pool="mean")
    by_formula = body(row.dim, row.depth, row.mlp_dim, row.patch_size, config.num_patches)
    assert count(config) == by_formula == PUBLISHED[name][0]


@pytest.mark.parametrize("name", [name for name, (_, total) in PUBLISHED.items() if total is not None])
def test_the_whole_has_the_published_number_of_parameters(name: str) -> None:
    # So400m and H are published without a head.
    config = preset(name, num_classes=0 if name in ("So400m", "H") else 1000)
    assert count(config) == PUBLISHED[name][1]


@pytest.mark.parametrize("name", ["Ti", "So400m", "e"])
def test_head_class_token_and_map_pool_add_what_the_formula_says(name: str) -> None:
    row, headless = PRESETS[name], preset(name, num_classes=0)
    mean = count(replace(headless, pool="mean"))
    assert count(replace(headless, pool="cls")) - mean == 2 * row.dim
    assert count(replace(headless, pool="map")) - mean == 4 * row.dim**2 + 2 * row.dim * row.mlp_dim + (
        8 * row.dim + row.mlp_dim
    )
    assert count(replace(headless, pool="mean", num_classes=10)) - mean == 10 * (row.dim + 1)


def test_the_blocks_of_22b_are_its_paper_s() -> None:
    """The matrices hold 21,743M; norms have no bias, QKV neither, and each block has one norm of its width."""
    config = preset("22B")
    model = on_meta(config)
    blocks = dict(model.transformer.named_parameters())
    assert sum(tensor.numel() for tensor in blocks.values() if tensor.ndim == 2) == 21_743_271_936
    assert {name.split(".", 2)[2]: tuple(tensor.shape) for name, tensor in blocks.items()} == {
        "norm.weight": (6144,),
        "attention.to_qkv.weight": (3 * 6144, 6144),
        "attention.query_norm.weight": (128,),
        "attention.key_norm.weight": (128,),
        "attention.out.weight": (6144, 6144),
        "attention.out.bias": (6144,),
        "mlp.into.weight": (24576, 6144),
        "mlp.into.bias": (24576,),
        "mlp.out.weight": (6144, 24576),
        "mlp.out.bias": (6144,),
    }
    assert config.num_patches == 256
    assert config.pool == "map"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_its_source_and_splits_its_width_over_its_heads(name: str) -> None:
    row = PRESETS[name]
    assert row.heads * row.dim_head == row.dim
    assert row.source.startswith(("arXiv ", "ours: "))
    designs = {"hybrid": Design(stem="conv", norm="batch"), **dict.fromkeys(PUBLISHED, PLAIN_VIT)}
    assert row.design == designs.get(name.partition("-")[0], Design())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.drill if name in ("H", "g", "G", "e") else ()) for name in PRESETS]
)
def test_every_preset_answers_with_its_classes(name: str) -> None:
    config = preset(name, num_classes=7)
    images = torch.empty(2, config.channels, *config.image_hw, device="meta")
    assert on_meta(config)(images).shape == (2, 7)


def test_the_sizes_of_the_data_come_before_those_of_the_row() -> None:
    config = preset("nano", num_classes=3, image_size=(20, 30), patch_size=(2, 5), channels=1)
    assert (config.image_hw, config.patch_hw, config.channels, config.num_classes) == ((20, 30), (2, 5), 1, 3)
    assert (config.dim, config.depth) == (PRESETS["nano"].dim, PRESETS["nano"].depth)


def test_a_design_replaces_that_of_the_row() -> None:
    design = Design(positions="rope", registers=4)
    assert preset("Ti", design=design).design == design


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("b", {}, ["no preset 'b'", "Ti, S, B"]),
        ("B", {"image_size": 225}, ["225", "16", "224 or 240"]),
        ("B", {"num_classes": -1}, ["num_classes", "-1"]),
        ("B", {"channels": 0}, ["channels", "0"]),
    ],
)
def test_what_cannot_be_is_refused_by_name(name: str, changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        preset(name, **changes)
    for word in words:
        assert word in str(caught.value)
