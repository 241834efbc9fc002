"""timm's weights in our model give timm's numbers, compared stage by stage so that a break says where.

Not matched, by design of one or the other:
- timm's `global_pool="avg"` normalizes after pooling (`fc_norm`); ours, like the original, before: `fc_norm=False`.
- timm may give registers positions; ours have none, as a sum of two learned vectors says no more: the sums are copied.
- timm's `ParallelScalingBlock` has one LayerScale for both branches; ours has one each: both get the same values.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import ParallelScalingBlock, VisionTransformer
from torch import Tensor, nn

from megavit.config.vit import PLAIN_VIT, Design, ViTConfig
from megavit.model.block import Transformer
from megavit.model.vit import MegaVit

close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)

OURS: dict[str, Any] = {
    "image_size": (24, 32),
    "patch_size": 8,
    "num_classes": 5,
    "dim": 48,
    "depth": 3,
    "heads": 4,
    "mlp_dim": 96,
    "dim_head": 12,
}
THEIRS: dict[str, Any] = {
    "img_size": (24, 32),
    "patch_size": 8,
    "num_classes": 5,
    "embed_dim": 48,
    "depth": 3,
    "num_heads": 4,
    "mlp_ratio": 2.0,
    "dynamic_img_size": True,
}

# theirs -> ours: inside a block, inside the attention pool, at the top
BLOCK = {
    "norm1": "attention_norm",
    "attn.qkv": "attention.to_qkv",
    "attn.q_norm": "attention.query_norm",
    "attn.k_norm": "attention.key_norm",
    "attn.proj": "attention.out",
    "ls1.gamma": "attention_scale.factor",
    "norm2": "mlp_norm",
    "mlp.fc1": "mlp.into",
    "mlp.fc2": "mlp.out",
    "ls2.gamma": "mlp_scale.factor",
}
POOL = {
    "q": "to_query",
    "kv": "to_key_value",
    "proj": "out",
    "norm": "norm",
    "mlp.fc1": "mlp_into",
    "mlp.fc2": "mlp_out",
}
TOP = {"norm": "norm", "head": "mlp_head"}

# ours beside theirs
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "class token": ({"design": PLAIN_VIT}, {}),
    "mean": (
        {"design": PLAIN_VIT, "pool": "mean"},
        {"global_pool": "avg", "class_token": False, "fc_norm": False},
    ),
    "attention pool": ({"design": PLAIN_VIT, "pool": "map"}, {"global_pool": "map", "class_token": False}),
    "no head": ({"design": PLAIN_VIT, "num_classes": 0}, {"num_classes": 0}),
    "registers": ({"design": replace(PLAIN_VIT, registers=3)}, {"reg_tokens": 3}),
    "registers without positions": (
        {"design": replace(PLAIN_VIT, registers=3), "pool": "mean"},
        {"reg_tokens": 3, "no_embed_class": True, "global_pool": "avg", "class_token": False, "fc_norm": False},
    ),
    "layer scale": ({"design": replace(PLAIN_VIT, layer_scale=0.1)}, {"init_values": 0.1}),
    "qk norm": ({"design": replace(PLAIN_VIT, qk_norm=True)}, {"qk_norm": True}),
    "no qkv bias": ({"design": replace(PLAIN_VIT, qkv_bias=False)}, {"qkv_bias": False}),
    "oblong patches": ({"design": PLAIN_VIT, "patch_size": (12, 8)}, {"patch_size": (12, 8)}),
}
EVERY_VARIANT = pytest.mark.parametrize("name", VARIANTS)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def shaken(module: nn.Module) -> nn.Module:
    """Every parameter away from its initial value: norms, biases, positions and scales too."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def renamed(name: str, table: dict[str, str]) -> str:
    module, _, parameter = name.rpartition(".")
    return table[name] if name in table else f"{table[module]}.{parameter}"


def theirs_as_ours(theirs: VisionTransformer) -> dict[str, Tensor]:
    """Every tensor of timm's model under our names and shapes; a name that is unknown is a KeyError."""
    state = dict(theirs.state_dict())
    kernel = state.pop("patch_embed.proj.weight")
    ours = {
        "patch_embedding.projection.weight": kernel.flatten(1),
        "patch_embedding.projection.bias": state.pop("patch_embed.proj.bias"),
    }
    prefix, patches = state.pop("pos_embed")[0].split(
        [0 if theirs.no_embed_class else theirs.num_prefix_tokens, theirs.patch_embed.num_patches]
    )
    ours["positions.table"] = patches
    if theirs.cls_token is not None:
        ours["prefix_tokens.class_token"] = state.pop("cls_token")[0, 0]
        ours["prefix_tokens.class_position"] = prefix[0]
    if theirs.reg_token is not None:
        positions = prefix[-theirs.num_reg_tokens :] if len(prefix) else 0
        ours["prefix_tokens.registers"] = state.pop("reg_token")[0] + positions
    for key, tensor in state.items():
        head, _, rest = key.partition(".")
        if head == "blocks":
            number, _, inside = rest.partition(".")
            ours[f"transformer.layers.{number}.{renamed(inside, BLOCK)}"] = tensor
        elif key == "attn_pool.latent":
            ours["pool.query"] = tensor[0, 0]
        elif head == "attn_pool":
            ours[f"pool.{renamed(rest, POOL)}"] = tensor
        else:
            ours[f"{TOP[head]}.{rest}"] = tensor
    return ours


def pair(name: str) -> tuple[Any, Any]:
    """Our model with their weights, and theirs; `Any`, as torch types what is inside of modules too loosely."""
    of_ours, of_theirs = VARIANTS[name]
    theirs = VisionTransformer(**THEIRS | of_theirs)
    shaken(theirs)
    ours = MegaVit.from_config(ViTConfig(**OURS | of_ours)).eval()
    ours.load_state_dict(theirs_as_ours(theirs))
    return ours, theirs


def outputs(module: nn.Module, modules: dict[str, nn.Module], x: Tensor) -> dict[str, Tensor]:
    """What each of `modules` answers while `module` sees `x`, in the order of the pass."""
    seen: dict[str, Tensor] = {}
    hooks = [
        part.register_forward_hook(lambda _, __, output, stage=stage: seen.update({stage: output}))
        for stage, part in modules.items()
    ]
    seen["logits"] = module(x)
    for hook in hooks:
        hook.remove()
    return seen


@EVERY_VARIANT
@pytest.mark.parametrize("sides", [(24, 32), (24, 16), (48, 64), (72, 16)])
@torch.no_grad()
def test_every_stage_agrees_on_images_of_any_size(name: str, sides: tuple[int, int]) -> None:
    ours, theirs = pair(name)
    x = torch.randn(2, 3, *sides)
    mine = outputs(
        ours,
        {
            "patches": ours.patch_embedding,
            "tokens": ours.dropout,
            **{f"block {i}": layer for i, layer in enumerate(ours.transformer.layers)},
            "norm": ours.norm,
        },
        x,
    )
    yours = outputs(
        theirs,
        {
            "patches": theirs.patch_embed,
            "tokens": theirs.pos_drop,
            **{f"block {i}": layer for i, layer in enumerate(theirs.blocks)},
            "norm": theirs.norm,
        },
        x,
    )
    yours["patches"] = yours["patches"].flatten(1, 2)
    assert list(mine) == list(yours) == ["patches", "tokens", "block 0", "block 1", "block 2", "norm", "logits"]
    for stage, tensor in yours.items():
        close(mine[stage], tensor, msg=lambda text, stage=stage: f"at stage {stage}: {text}")
    close(ours.features(x).pooled, theirs.forward_head(theirs.forward_features(x), pre_logits=True))


@torch.no_grad()
def test_an_image_one_patch_wide_gets_the_same_positions() -> None:
    ours, theirs = pair("class token")
    x = torch.randn(2, 3, 72, 8)
    close(ours(x), theirs(x))


@EVERY_VARIANT
def test_every_parameter_of_one_has_its_place_in_the_other(name: str) -> None:
    ours, theirs = pair(name)
    difference = sum(p.numel() for p in theirs.parameters()) - sum(p.numel() for p in ours.parameters())
    # timm's positions of registers, which are folded into the registers.
    assert difference == (3 * 48 if name == "registers" else 0)


@EVERY_VARIANT
def test_gradients_agree(name: str) -> None:
    ours, theirs = pair(name)
    x = torch.randn(2, 3, 24, 32)
    for model in (ours, theirs):
        model(x).square().sum().backward()
    close(ours.patch_embedding.projection.bias.grad, theirs.patch_embed.proj.bias.grad, atol=1e-3, rtol=1e-3)
    mine, yours = ours.transformer.layers[0].attention.to_qkv.weight.grad, theirs.blocks[0].attn.qkv.weight.grad
    close(mine, yours, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("norm_bias", [False, True])
@pytest.mark.parametrize("qkv_bias", [False, True])
@pytest.mark.parametrize("layer_scale", [None, 0.5])
@torch.no_grad()
def test_the_parallel_block_agrees_piece_by_piece(norm_bias: bool, qkv_bias: bool, layer_scale: float | None) -> None:
    """theirs.in_proj holds (MLP | query | key | value); its bias is one with QKV's or stands alone as `mlp_bias`."""
    design = Design(norm_bias=norm_bias, qkv_bias=qkv_bias, layer_scale=layer_scale)
    norm_layer: Any = partial(nn.LayerNorm, eps=1e-6, bias=norm_bias)
    theirs: Any = ParallelScalingBlock(
        dim=48,
        num_heads=4,
        mlp_ratio=2.0,
        qkv_bias=qkv_bias,
        qk_norm=True,
        init_values=layer_scale,
        norm_layer=norm_layer,
    )
    shaken(theirs)
    ours: Any = Transformer(ViTConfig(**OURS | {"design": design})).eval().layers[0]
    into, qkv = theirs.in_proj.weight.split([96, 3 * 48])
    state = {"mlp.into.weight": into, "attention.to_qkv.weight": qkv}
    if qkv_bias:
        state["mlp.into.bias"], state["attention.to_qkv.bias"] = theirs.in_proj.bias.split([96, 3 * 48])
    else:
        state["mlp.into.bias"] = theirs.mlp_bias
    places = {
        "in_norm": "norm",
        "q_norm": "attention.query_norm",
        "k_norm": "attention.key_norm",
        "attn_out_proj": "attention.out",
        "mlp_out_proj": "mlp.out",
    }
    for place, name in places.items():
        for key, tensor in theirs.get_submodule(place).state_dict().items():
            state[f"{name}.{key}"] = tensor
    if layer_scale is not None:
        state["attention_scale.factor"] = state["mlp_scale.factor"] = theirs.ls.gamma
    ours.load_state_dict(state)

    x = torch.randn(2, 12, 48)
    mine = outputs(
        ours,
        {
            "norm": ours.norm,
            "query": ours.attention.query_norm,
            "key": ours.attention.key_norm,
            "attention": ours.attention.out,
            "mlp": ours.mlp.out,
        },
        x,
    )
    yours = outputs(
        theirs,
        {
            "norm": theirs.in_norm,
            "query": theirs.q_norm,
            "key": theirs.k_norm,
            "attention": theirs.attn_out_proj,
            "mlp": theirs.mlp_out_proj,
        },
        x,
    )
    # Theirs are normalized as (B, T, H, K).
    yours |= {name: yours[name].transpose(1, 2) for name in ("query", "key")}
    assert mine.keys() == yours.keys()
    for stage, tensor in yours.items():
        close(mine[stage], tensor, msg=lambda text, stage=stage: f"at stage {stage}: {text}")
