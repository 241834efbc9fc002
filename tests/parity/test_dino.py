"""The weights of DINOv2's and DINOv3's own files in our model give their numbers.

Neither is a package to install, so their arithmetic is written here as functions of their state dicts, with their
names; and timm, which reads their files by its own code, must give the same.
"""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import SwiGLUPacked
from timm.models import eva, vision_transformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from megavit.errors import BundleError
from megavit.model.vit import MegaVit
from megavit.weights.pretrained.load_checkpoint import load_checkpoint
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat
from megavit.weights.pretrained.mappings.dinov2 import DINOV2
from megavit.weights.pretrained.mappings.dinov3 import DINOV3
from megavit.weights.pretrained.mappings.key_mapping import to_ours, to_theirs
from tests.helpers.parity import (
    assert_round_trip,
    assert_same_stages,
    close,
    get_shapes,
    load_ours,
    record_our_stages,
    rename_tensors,
)

BOTH = pytest.mark.parametrize("peer", [DINOV2, DINOV3], ids=["dinov2", "dinov3"])
SIZES: dict[str, Any] = {
    "grid": (3, 8),
    "patch": (8, 4),
    "channels": 3,
    "dim": 48,
    "depth": 3,
    "heads": 4,
    "hidden": 40,
    "registers": 2,
    "gated": False,
    "biased": True,
    "scaled": True,
}
KNOWN = {"image_size": (24, 32), "heads": 4}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def weights(
    peer: CheckpointFormat,
    grid: tuple[int, int],
    patch: tuple[int, int],
    channels: int,
    dim: int,
    depth: int,
    heads: int,
    hidden: int,
    registers: int,
    gated: bool,
    biased: bool,
    scaled: bool,
) -> dict[str, Tensor]:
    """A state dict as the released files have it, of random numbers."""
    new = peer is DINOV3
    tensors = {
        "patch_embed.proj.weight": torch.randn(dim, channels, *patch) * 0.1,
        "patch_embed.proj.bias": torch.randn(dim),
        "cls_token": torch.randn(1, 1, dim),
        "mask_token": torch.zeros(1, dim),
    }
    if registers:
        tensors["storage_tokens" if new else "register_tokens"] = torch.randn(1, registers, dim)
    if new:
        quarter = dim // heads // 4
        tensors["rope_embed.periods"] = 100 ** (torch.arange(quarter) / quarter)
    else:
        tensors["pos_embed"] = torch.randn(1, grid[0] * grid[1] + 1, dim)
    norms, linears = ["norm"], {}
    for i in range(depth):
        block = f"blocks.{i}."
        norms += [block + "norm1", block + "norm2"]
        linears[block + "attn.proj"] = (dim, dim)
        if gated and new:
            linears |= {
                block + "mlp.w1": (hidden, dim),
                block + "mlp.w2": (hidden, dim),
                block + "mlp.w3": (dim, hidden),
            }
        elif gated:
            linears |= {block + "mlp.w12": (2 * hidden, dim), block + "mlp.w3": (dim, hidden)}
        else:
            linears |= {block + "mlp.fc1": (hidden, dim), block + "mlp.fc2": (dim, hidden)}
        tensors[block + "attn.qkv.weight"] = torch.randn(3 * dim, dim) * dim**-0.5
        if biased:
            tensors[block + "attn.qkv.bias"] = bias = torch.randn(3 * dim)
            if new:
                bias[dim : 2 * dim] = 0
                tensors[block + "attn.qkv.bias_mask"] = torch.ones(3 * dim)
                tensors[block + "attn.qkv.bias_mask"][dim : 2 * dim] = 0
        if scaled:
            tensors |= {f"{block}{name}.gamma": torch.randn(dim) for name in ("ls1", "ls2")}
    for name in norms:
        tensors |= {f"{name}.weight": 1 + 0.1 * torch.randn(dim), f"{name}.bias": 0.1 * torch.randn(dim)}
    for name, (out, into) in linears.items():
        tensors |= {f"{name}.weight": torch.randn(out, into) * into**-0.5, f"{name}.bias": 0.1 * torch.randn(out)}
    return tensors


def reference(peer: CheckpointFormat, tensors: dict[str, Tensor], x: Tensor, heads: int) -> dict[str, Tensor]:
    """What the released model answers at each stage; its logits are the normalized class token."""
    new = peer is DINOV3
    seen: dict[str, Tensor] = {}

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"], 1e-5 if new else 1e-6)

    def linear(name: str, x: Tensor) -> Tensor:
        bias = tensors.get(f"{name}.bias")
        mask = tensors.get(f"{name}.bias_mask")
        return F.linear(x, tensors[f"{name}.weight"], bias if bias is None or mask is None else bias * mask)

    kernel = tensors["patch_embed.proj.weight"]
    cells = F.conv2d(x, kernel, tensors["patch_embed.proj.bias"], stride=(kernel.shape[2], kernel.shape[3]))
    rows, columns = cells.shape[2:]
    seen["patches"] = patches = cells.flatten(2).mT
    class_token = tensors["cls_token"]
    if not new:
        positions = tensors["pos_embed"]
        class_token, patches = class_token + positions[:, :1], patches + positions[:, 1:]
    registers = tensors.get("storage_tokens" if new else "register_tokens", class_token[:, :0])
    prefix = torch.cat([class_token, registers], dim=1).expand(len(x), -1, -1)
    x = torch.cat([prefix, patches], dim=1)

    def turned(x: Tensor) -> Tensor:
        """A pair of channels (c, c + K/2) turned by an angle: first those of the row's place, then the column's."""
        if not new:
            return x
        places = [
            ((row + 0.5) / rows * 2 - 1, (column + 0.5) / columns * 2 - 1)
            for row in range(rows)
            for column in range(columns)
        ]
        angles = (2 * math.pi * torch.tensor(places)[:, :, None] / tensors["rope_embed.periods"]).flatten(1)
        prefix, first, second = x[:, :, : -rows * columns], *x[:, :, -rows * columns :].chunk(2, dim=-1)
        pair = [first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()]
        return torch.cat([prefix, torch.cat(pair, dim=-1)], dim=2)

    for i in range(1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))):
        block = f"blocks.{i}."
        qkv = linear(block + "attn.qkv", norm(block + "norm1", x)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in qkv)
        scores = turned(query) @ turned(key).mT * query.shape[-1] ** -0.5
        mixed = linear(block + "attn.proj", (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2))
        x = x + mixed * tensors.get(block + "ls1.gamma", torch.ones(()))
        hidden = norm(block + "norm2", x)
        if f"{block}mlp.w12.weight" in tensors:
            gate, up = linear(block + "mlp.w12", hidden).chunk(2, dim=-1)
            hidden = linear(block + "mlp.w3", F.silu(gate) * up)
        elif f"{block}mlp.w1.weight" in tensors:
            gate, up = linear(block + "mlp.w1", hidden), linear(block + "mlp.w2", hidden)
            hidden = linear(block + "mlp.w3", F.silu(gate) * up)
        else:
            hidden = linear(block + "mlp.fc2", F.gelu(linear(block + "mlp.fc1", hidden)))
        seen[f"block {i}"] = x = x + hidden * tensors.get(block + "ls2.gamma", torch.ones(()))
    seen["norm"] = x = norm("norm", x)
    seen["pooled"] = seen["logits"] = x[:, 0]
    return seen


@BOTH
@pytest.mark.parametrize(
    "changed",
    [{}, {"registers": 0}, {"gated": True}, {"biased": False}, {"scaled": False}],
    ids=["plain", "no registers", "swiglu", "no qkv bias", "no layer scale"],
)
def test_every_stage_agrees(peer: CheckpointFormat, changed: dict[str, Any]) -> None:
    tensors = weights(peer, **SIZES | changed)
    x = torch.randn(2, 3, 24, 32)
    assert set(peer.signature) <= tensors.keys()
    assert_same_stages(record_our_stages(load_ours(peer, tensors, KNOWN), x), reference(peer, tensors, x, heads=4))


def test_dinov3_agrees_at_every_size() -> None:
    tensors = weights(DINOV3, **SIZES)
    ours = load_ours(DINOV3, tensors)
    assert (ours.config.heads, ours.config.dim_head) == (4, 12)
    for sides in [(8, 4), (40, 12), (8, 60)]:
        x = torch.randn(2, 3, *sides)
        assert_same_stages(record_our_stages(ours, x), reference(DINOV3, tensors, x, heads=4))


@BOTH
@given(
    grid=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    patch=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.integers(1, 4),
    heads=st.integers(1, 3),
    width=st.sampled_from([4, 8]),
    depth=st.integers(1, 3),
    hidden=st.integers(1, 5),
    registers=st.integers(0, 3),
    gated=st.booleans(),
    biased=st.booleans(),
    scaled=st.booleans(),
)
def test_there_and_back_is_the_same_to_the_bit(
    peer: CheckpointFormat, grid: tuple[int, int], patch: tuple[int, int], heads: int, width: int, **sizes: Any
) -> None:
    known = {"image_size": (grid[0] * patch[0], grid[1] * patch[1]), "heads": heads}
    tensors = weights(peer, grid=grid, patch=patch, heads=heads, dim=heads * width, **sizes)
    assert_round_trip(peer, tensors, known)


def hub_classifier(layers: int = 1) -> dict[str, Tensor]:
    """A state dict of `dinov2_vits14_lc` from torch.hub, which reads the class tokens of `layers` and the mean."""
    backbone = {f"backbone.{name}": tensor for name, tensor in weights(DINOV2, **SIZES).items()}
    head = {"linear_head.weight": torch.randn(5, 48 * (1 + layers)), "linear_head.bias": torch.randn(5)}
    return backbone | head


@pytest.mark.parametrize("prefix", ["", "model."])
@torch.no_grad()
def test_a_linear_classifier_of_one_layer_reads_the_class_token_and_the_mean(prefix: str, tmp_path: Path) -> None:
    tensors = hub_classifier()
    torch.save({prefix + name: tensor for name, tensor in tensors.items()}, tmp_path / "a.pth")
    found = load_checkpoint(tmp_path / "a.pth", KNOWN)
    assert (found.config.pool, found.config.num_classes, found.left_out) == ("cls_mean", 5, ())
    ours = MegaVit.from_config(found.config).eval()
    ours.load_state_dict(found.tensors)
    x = torch.randn(2, 3, 24, 32)
    backbone = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items() if "backbone" in name}
    tokens = reference(DINOV2, backbone, x, heads=4)["norm"]
    both = torch.cat([tokens[:, 0], tokens[:, 3:].mean(dim=1)], dim=1)
    close(ours(x), F.linear(both, tensors["linear_head.weight"], tensors["linear_head.bias"]))


def test_a_linear_classifier_of_four_layers_is_left_out_and_named(tmp_path: Path) -> None:
    torch.save(hub_classifier(layers=4), tmp_path / "a.pth")
    found = load_checkpoint(tmp_path / "a.pth", KNOWN)
    assert (found.config.pool, found.config.num_classes) == ("cls", 0)
    assert found.left_out == ("linear_head.bias", "linear_head.weight")
    assert any("linear_head.weight" in note for note in found.notes)


@BOTH
def test_the_backbone_of_a_training_checkpoint_is_read(peer: CheckpointFormat) -> None:
    tensors = weights(peer, **SIZES)
    training = {f"teacher.backbone.{name}": tensor for name, tensor in tensors.items()}
    training["teacher.dino_head.mlp.0.weight"] = torch.zeros(3)
    assert rename_tensors(peer, training).keys() == tensors.keys() == rename_tensors(peer, tensors).keys()


def test_layers_in_chunks_are_numbered_on_through() -> None:
    tensors = weights(DINOV2, **SIZES)
    chunk = {"0": "0.0", "1": "0.1", "2": "1.2"}
    chunks = {
        ".".join([parts[0], chunk[parts[1]], *parts[2:]]) if parts[0] == "blocks" else name: tensor
        for name, tensor in tensors.items()
        for parts in [name.split(".")]
    }
    assert "blocks.1.2.mlp.fc1.bias" in chunks
    assert rename_tensors(DINOV2, chunks).keys() == tensors.keys()


def test_a_masked_bias_of_keys_counts_for_nothing() -> None:
    tensors = weights(DINOV3, **SIZES)
    stored = {name: tensor.clone() for name, tensor in tensors.items()}
    stored["blocks.1.attn.qkv.bias"][48:60] = torch.nan
    tidied = DINOV3.normalize(stored)
    assert all(torch.equal(tidied[name], tensor) for name, tensor in tensors.items())


def test_a_bias_of_keys_that_was_learned_is_not_written() -> None:
    tensors = weights(DINOV3, **SIZES)
    config = DINOV3.config(get_shapes(tensors), {})
    rules = DINOV3.key_rules(config)
    state = to_ours(rules, tensors, config)
    state["transformer.layers.2.attention.to_qkv.bias"][50] = 0.1
    with pytest.raises(BundleError, match=r"layers\.2\.attention\.to_qkv\.bias cannot be written"):
        to_theirs(rules, state)


def test_periods_may_be_rounded_but_not_others() -> None:
    tensors = weights(DINOV3, **SIZES)
    config = DINOV3.config(get_shapes(tensors), {})
    rules = DINOV3.key_rules(config)
    rounded = tensors | {"rope_embed.periods": tensors["rope_embed.periods"].bfloat16()}
    assert to_ours(rules, rounded, config).keys() == to_ours(rules, tensors, config).keys()
    with pytest.raises(BundleError, match=r"rope_embed\.periods has other values"):
        to_ours(rules, tensors | {"rope_embed.periods": 1.01 * tensors["rope_embed.periods"]}, config)


def test_a_norm_for_training_alone_is_left_out_and_one_for_the_class_token_refused() -> None:
    tensors = weights(DINOV3, **SIZES)
    extra = torch.ones(48)
    assert rename_tensors(DINOV3, tensors | {"local_cls_norm.weight": extra}).keys() == tensors.keys()
    with pytest.raises(BundleError, match="one norm for all"):
        DINOV3.config(get_shapes(tensors | {"cls_norm.weight": extra}), {})


# timm's settings for its own forms of the two, and what it reads their files with.
TIMM: dict[str, Any] = {
    "img_size": (24, 32),
    "patch_size": (8, 4),
    "num_classes": 0,
    "embed_dim": 48,
    "depth": 3,
    "num_heads": 4,
    "global_pool": "token",
    "init_values": 1.0,
}
ROPE: dict[str, Any] = {
    "rope_type": "dinov3",
    "rope_temperature": 100,
    "rope_rotate_half": True,
    "use_rot_pos_emb": True,
    "use_abs_pos_emb": False,
    "norm_layer": partial(nn.LayerNorm, eps=1e-5),
}


@pytest.mark.parametrize("gated", [False, True])
@torch.no_grad()
def test_dinov2_is_what_timm_makes_of_its_file(gated: bool) -> None:
    tensors = weights(DINOV2, **SIZES | {"gated": gated})
    mlp: dict[str, Any] = {"mlp_ratio": 40 / 48}
    if gated:
        mlp = {"mlp_ratio": 80 / 48, "mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
    theirs = VisionTransformer(**TIMM | mlp, reg_tokens=2, no_embed_class=True).eval()
    theirs.load_state_dict(vision_transformer.checkpoint_filter_fn(dict(tensors), theirs))
    x = torch.randn(2, 3, 24, 32)
    close(load_ours(DINOV2, tensors, KNOWN)(x), theirs(x))


@pytest.mark.parametrize("gated", [False, True])
@torch.no_grad()
def test_dinov3_is_what_timm_makes_of_its_file(gated: bool) -> None:
    tensors = weights(DINOV3, **SIZES | {"gated": gated})
    mlp: dict[str, Any] = {"mlp_ratio": 40 / 48}
    if gated:
        mlp |= {"swiglu_mlp": True, "swiglu_align_to": 8}
    theirs = eva.Eva(**TIMM | mlp, **ROPE, num_reg_tokens=2).eval()
    theirs.load_state_dict(eva.checkpoint_filter_fn(dict(tensors), theirs))
    x = torch.randn(2, 3, 24, 32)
    close(load_ours(DINOV3, tensors)(x), theirs(x))
