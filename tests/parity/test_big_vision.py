"""The weights of big_vision and of the original ViT in our model give the numbers that timm gives with them.

timm reads such archives by its own code, so that names and transpositions are checked against another's reading.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.checkpoint_files import read_checkpoint
from megavit.weights.pretrained.mappings.big_vision import BIG_VISION
from tests.helpers.parity import (
    assert_round_trip,
    assert_same_stages,
    get_shapes,
    load_ours,
    record_our_stages,
    record_outputs,
    rename_tensors,
)

SIZES: dict[str, Any] = {"dim": 48, "depth": 3, "heads": 4, "hidden": 40, "classes": 5, "patch": (8, 8), "count": 12}
KNOWN = {"image_size": (24, 32)}
THEIRS: dict[str, Any] = {
    "img_size": (24, 32),
    "patch_size": 8,
    "embed_dim": 48,
    "depth": 3,
    "num_heads": 4,
    "mlp_ratio": 40 / 48,
    "num_classes": 5,
    "act_layer": "gelu_tanh",
    "fc_norm": False,
}
POOLS: dict[str, dict[str, Any]] = {
    "cls": {},
    "mean": {"global_pool": "avg", "class_token": False},
    "map": {"global_pool": "map", "class_token": False},
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def weights(
    pool: str,
    dim: int,
    depth: int,
    heads: int,
    hidden: int,
    classes: int,
    patch: tuple[int, int],
    count: int,
    channels: int = 3,
    with_class_position: bool = False,
) -> dict[str, Tensor]:
    """A tree of parameters as big_vision saves it, of random numbers."""

    def random(*shape: int) -> Tensor:
        return torch.randn(shape) * 0.2

    def dense(name: str, into: int, out: int) -> dict[str, Tensor]:
        return {f"{name}/kernel": random(into, out), f"{name}/bias": random(out)}

    def norm(name: str) -> dict[str, Tensor]:
        return {f"{name}/scale": 1 + random(dim), f"{name}/bias": random(dim)}

    def layer(name: str, attention: str, second: str) -> dict[str, Tensor]:
        parts = {}
        for part in ("query", "key", "value"):
            parts[f"{name}/{attention}/{part}/kernel"] = random(dim, heads, dim // heads)
            parts[f"{name}/{attention}/{part}/bias"] = random(heads, dim // heads)
        parts[f"{name}/{attention}/out/kernel"] = random(heads, dim // heads, dim)
        parts[f"{name}/{attention}/out/bias"] = random(dim)
        mlp = dense(f"{name}/MlpBlock_0/Dense_0", dim, hidden) | dense(f"{name}/MlpBlock_0/Dense_1", hidden, dim)
        return parts | mlp | norm(f"{name}/{second}")

    tensors = {"embedding/kernel": random(*patch, channels, dim), "embedding/bias": random(dim)}
    tensors |= {"pos_embedding": random(1, count + with_class_position, dim)} | norm("Transformer/encoder_norm")
    for i in range(depth):
        name = f"Transformer/encoderblock_{i}"
        tensors |= layer(name, "MultiHeadDotProductAttention_0", "LayerNorm_1") | norm(f"{name}/LayerNorm_0")
    if pool == "cls":
        tensors["cls"] = random(1, 1, dim)
    if pool == "map":
        tensors |= layer("MAPHead_0", "MultiHeadDotProductAttention_0", "LayerNorm_0")
        tensors["MAPHead_0/probe"] = random(1, 1, dim)
    return tensors | (dense("head", dim, classes) if classes else {})


def original_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the first release had them."""
    renamed = {
        "LayerNorm_1": "LayerNorm_2",
        "MlpBlock_0": "MlpBlock_3",
        "MultiHeadDotProductAttention_0": "MultiHeadDotProductAttention_1",
        "pos_embedding": "Transformer/posembed_input/pos_embedding",
    }
    old = {}
    for name, tensor in tensors.items():
        for new, former in renamed.items():
            name = name.replace(new, former)
        old[name] = tensor
    return old


def together(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """All layers in one array."""
    first = "Transformer/encoderblock_0/"
    stacked = {}
    for name, tensor in tensors.items():
        if name.startswith(first):
            layers = [tensors[name.replace("block_0/", f"block_{i}/")] for i in range(SIZES["depth"])]
            stacked[name.replace("block_0/", "block/")] = torch.stack(layers)
        elif "encoderblock_" not in name:
            stacked[name] = tensor
    return stacked


FORMS = {
    "big_vision": lambda tensors: tensors,
    "params/": lambda tensors: {f"params/{name}": tensor for name, tensor in tensors.items()},
    "with a text tower": lambda tensors: {
        **{f"params/img/{name}": tensor for name, tensor in tensors.items()},
        "params/txt/head/bias": torch.zeros(3),
        "params/t": torch.zeros(1),
    },
    "one array": together,
}


def in_a_file(tensors: dict[str, Tensor], folder: Path) -> Path:
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
    np.savez(folder / "w.npz", **arrays)
    return folder / "w.npz"


def assert_stages_agree(file: Path, theirs: Any) -> ViTConfig:
    theirs.load_pretrained(str(file))
    theirs.eval()
    ours = load_ours(
        BIG_VISION, BIG_VISION.normalize(rename_tensors(BIG_VISION, read_checkpoint(file).tables[""])), KNOWN
    )
    x = torch.randn(2, 3, 24, 32)
    blocks = {f"block {i}": layer for i, layer in enumerate(theirs.blocks)}
    yours = record_outputs(
        theirs, {"patches": theirs.patch_embed, **blocks, "norm": theirs.norm, "pooled": theirs.fc_norm}, x
    )
    assert_same_stages(record_our_stages(ours, x), yours)
    return ours.config


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("form", FORMS)
def test_every_stage_agrees(pool: str, form: str, tmp_path: Path) -> None:
    file = in_a_file(FORMS[form](weights(pool, **SIZES)), tmp_path)
    config = assert_stages_agree(file, VisionTransformer(**THEIRS | POOLS[pool] | {"no_embed_class": True}))
    assert config.pool == pool


def test_every_stage_of_an_original_one_agrees(tmp_path: Path) -> None:
    file = in_a_file(original_names(weights("cls", **SIZES, with_class_position=True)), tmp_path)
    config = assert_stages_agree(file, VisionTransformer(**THEIRS))
    assert config.design.prefix_positions == "class"


@given(
    pool=st.sampled_from(["cls", "mean", "map"]),
    grid=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    patch=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.integers(1, 4),
    heads=st.integers(1, 3),
    width=st.integers(1, 4),
    depth=st.integers(1, 12),
    hidden=st.integers(1, 5),
    classes=st.integers(0, 3),
    placed=st.booleans(),
)
def test_there_and_back_is_the_same_to_the_bit(
    pool: str, grid: tuple[int, int], patch: tuple[int, int], heads: int, width: int, placed: bool, **sizes: int
) -> None:
    tensors = weights(
        pool,
        dim=heads * width,
        heads=heads,
        patch=patch,
        count=grid[0] * grid[1],
        with_class_position=placed and pool == "cls",
        **sizes,
    )
    assert_round_trip(BIG_VISION, tensors, {"image_size": (grid[0] * patch[0], grid[1] * patch[1])})


@pytest.mark.parametrize("placed", [False, True])
def test_a_square_image_and_a_class_position_are_told_from_the_count(placed: bool) -> None:
    shapes = get_shapes(weights("cls", **SIZES | {"count": 9}, with_class_position=placed))
    config = BIG_VISION.config(shapes, {})
    assert (config.image_hw, config.design.prefix_positions) == ((24, 24), "class" if placed else "none")


def test_computed_positions_need_the_image_size() -> None:
    tensors = weights("mean", **SIZES)
    del tensors["pos_embedding"]
    with pytest.raises(BundleError, match="determine the image size: set it"):
        BIG_VISION.config(get_shapes(tensors), {})
    assert BIG_VISION.config(get_shapes(tensors), KNOWN).design.positions == "sincos"
    assert_round_trip(BIG_VISION, tensors, KNOWN)


def test_a_head_of_two_layers_is_refused() -> None:
    tensors = weights("cls", **SIZES) | {"pre_logits/kernel": torch.zeros(48, 48)}
    with pytest.raises(BundleError, match="pre_logits"):
        BIG_VISION.config(get_shapes(tensors), KNOWN)


def test_an_inlined_attention_pool_has_its_place() -> None:
    tensors = weights("map", **SIZES)
    inlined = {name.removeprefix("MAPHead_0/"): tensor for name, tensor in tensors.items()}
    assert rename_tensors(BIG_VISION, inlined).keys() == tensors.keys() == rename_tensors(BIG_VISION, tensors).keys()
