"""timm's `Eva` in the form of DINOv3 (`vit_*_patch16_dinov3*`; arXiv 2508.10104)."""

from typing import Any

from megavit.config.vit import ViTConfig
from megavit.model.positions import RotaryPositions
from megavit.weights.keys import Piece, Rule, Shapes, complete
from megavit.weights.peers.shapes import Known, config_from, depth_of, heads_known, heads_of_dinov3, shape_of, untold
from megavit.weights.peers.timm_vit import MODULES, PROJECTION, prefix

TOLD_BY = ("patch_embed.proj.weight", "reg_token", "blocks.0.gamma_1", "blocks.0.attn.qkv.weight")
IMAGE = 256


def table(config: ViTConfig) -> list[Rule]:
    """For weights of a serial design with rotary positions; theirs have no bias of keys."""
    design, dim = config.design, config.dim
    inner, hidden = config.heads * config.dim_head, config.mlp_dim
    modules = MODULES | {"norm" if design.final_norm == "tokens" else "fc_norm": "norm"}
    rules = [
        Rule([Piece("patch_embed.proj.weight", (dim, config.channels, *config.patch_hw))], [PROJECTION + ".weight"]),
        *prefix(config),
    ]
    for i in range(config.depth):
        theirs, ours = f"blocks.{i}", f"transformer.layers.{i}"
        for theirs_scale, ours_scale in (("gamma_1", "attention_scale"), ("gamma_2", "mlp_scale")):
            rules.append(Rule([Piece(f"{theirs}.{theirs_scale}", (dim,))], [f"{ours}.{ours_scale}.factor"]))
        if design.qkv_bias:
            query, value = (Piece(f"{theirs}.attn.{name}_bias", (inner,)) for name in "qv")
            rules.append(Rule([query, Piece(None, (inner,)), value], [f"{ours}.attention.to_qkv.bias"]))
        if design.mlp == "swiglu":
            for last, shape in (("weight", (hidden, dim)), ("bias", (hidden,))):
                pieces = [Piece(f"{theirs}.mlp.{name}.{last}", shape) for name in ("fc1_g", "fc1_x")]
                rules.append(Rule(pieces, [f"{ours}.mlp.into.{last}"]))
    return complete(config, rules, modules | {"patch_embed.proj": PROJECTION})


def config_of(shapes: Shapes, known: Known) -> ViTConfig:
    """Pooled by the mean of the patches, as timm does unless asked for "token": then `known` has pool "cls".

    Raises:
        BundleError: for a tensor that is missing.
    """
    dim, channels, *patch = shape_of(shapes, "patch_embed.proj.weight", axes=4)
    pool = known.get("pool", "mean")
    found: dict[str, Any] = {
        "image_size": IMAGE,
        "patch_size": (patch[0], patch[1]),
        "num_classes": shape_of(shapes, "head.weight", axes=2)[0] if "head.weight" in shapes else 0,
        "dim": dim,
        "depth": depth_of(shapes, "blocks."),
        "mlp_dim": shape_of(shapes, "blocks.0.mlp.fc2.weight", axes=2)[1],
        "pool": pool,
        "channels": channels,
        "block": "serial",
        "qk_norm": False,
        "qkv_bias": "blocks.0.attn.q_bias" in shapes,
        "norm_bias": "blocks.0.norm1.bias" in shapes,
        "norm_eps": 1e-5,
        "final_norm": "pooled" if "fc_norm.weight" in shapes else "tokens",
        "mlp": "swiglu" if "blocks.0.mlp.fc1_g.weight" in shapes else "gelu",
        "positions": "rope",
        "registers": shape_of(shapes, "reg_token", axes=3)[1] + (pool != "cls"),
        "layer_scale": 1e-5,
    }
    known = {"heads": heads_of_dinov3(dim), **known}
    return config_from(heads_known(found, known), known)


def assumed(config: ViTConfig) -> dict[str, Any]:
    """Return what no shape tells: beside the usual the pooling, the size of images, and the rotary base."""
    return untold(config, "pool", "image_size") | {"rotary base": RotaryPositions.base}
