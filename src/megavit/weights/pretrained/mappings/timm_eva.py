"""timm's `Eva` with rotary positions alone: `vit_*_dinov3*` and `vit_*_lingbot`, and `vit_*_rope_reg*_gap_*`.

DINOv3's (arXiv 2508.10104) have a class token and turn channels (c, c + half) of a head, as ours; the others' rotations
are EVA-02's: see `timm_eva02`.
"""

from typing import Any

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.key_mapping import Piece, Rule, Shapes, complete
from megavit.weights.pretrained.mappings.shapes import (
    Known,
    check_said,
    config_from,
    depth_of,
    final_norm_of,
    heads_known,
    heads_of_dinov3,
    shape_of,
    untold,
)
from megavit.weights.pretrained.mappings.timm_eva02 import interleaved
from megavit.weights.pretrained.mappings.timm_vit import MODULES, last_norm, norm_bias, patches, prefix

TOLD_BY = ("patch_embed.proj.weight", "blocks.0.norm1.weight", "blocks.0.attn.qkv.weight")
IMAGE = 256


def table(config: ViTConfig) -> list[Rule]:
    """For weights of a serial design with rotary positions; theirs have no bias of keys, or one of all three."""
    design, dim = config.design, config.dim
    inner = config.heads * config.dim_head
    rules = [*patches(config), *prefix(config)]
    if config.pool == "map":
        rules.append(Rule([Piece("attn_pool.latent", (1, 1, dim))], ["pool.query"]))
    for i in range(config.depth):
        theirs, ours = f"blocks.{i}", f"transformer.layers.{i}"
        if design.layer_scale is not None:
            for theirs_scale, ours_scale in (("gamma_1", "attention_scale"), ("gamma_2", "mlp_scale")):
                rules.append(Rule([Piece(f"{theirs}.{theirs_scale}", (dim,))], [f"{ours}.{ours_scale}.factor"]))
        if design.positions == "rope_grid":
            rules += interleaved(config, i)
        elif design.qkv_bias:
            query, value = (Piece(f"{theirs}.attn.{name}_bias", (inner,)) for name in "qv")
            rules.append(
                Rule(
                    [query, Piece(None, (inner,)), value],
                    [f"{ours}.attention.to_qkv.bias"],
                    instead=[Piece(f"{theirs}.attn.qkv.bias", (3 * inner,))],
                )
            )
        if design.mlp == "swiglu":
            rules += gates(config, i)
    return complete(config, rules, MODULES | last_norm(config))


def gates(config: ViTConfig, layer: int) -> list[Rule]:
    """Return the rules of the gated MLP of a layer, whose two projections in are apart, or one."""
    rules, into = [], f"blocks.{layer}.mlp"
    for last, shape in (("weight", (config.dim,)), ("bias", ())):
        apart = [Piece(f"{into}.{name}.{last}", (config.mlp_dim, *shape)) for name in ("fc1_g", "fc1_x")]
        one = [Piece(f"{into}.fc1.{last}", (2 * config.mlp_dim, *shape))]
        rules.append(Rule(apart, [f"transformer.layers.{layer}.mlp.into.{last}"], instead=one))
    return rules


def config_of(shapes: Shapes, known: Known) -> ViTConfig:
    """Pooled by the mean of the patches, as timm does unless asked for "token": then `known` has pool "cls".

    Raises:
        BundleError: for a tensor that is missing, and for tensors that are those of models of several kinds.
    """
    if "blocks.0.attn.qkv.bias" in shapes and "positions" not in known:
        raise BundleError(
            "the checkpoint has rotary positions of one of several kinds (timm's vit_*_rope_*), which its tensors do "
            "not tell: put its config.json beside it"
        )
    by_class_token = "rope" if "cls_token" in shapes else "rope_grid"
    positions = known.get("positions", by_class_token)
    check_said(known, {"block": ["serial"], "positions": ["rope", "rope_grid"]})
    dim, channels, *patch = shape_of(shapes, "patch_embed.proj.weight", axes=4)
    hidden = shape_of(shapes, "blocks.0.mlp.fc2.weight", axes=2)[1]
    gated = "blocks.0.mlp.fc1_g.weight" in shapes or shape_of(shapes, "blocks.0.mlp.fc1.weight", axes=2)[0] != hidden
    registers = shape_of(shapes, "reg_token", axes=3)[1] if "reg_token" in shapes else 0
    pool = known.get("pool", "mean")
    found: dict[str, Any] = {
        "image_size": IMAGE,
        "patch_size": (patch[0], patch[1]),
        "num_classes": shape_of(shapes, "head.weight", axes=2)[0] if "head.weight" in shapes else 0,
        "dim": dim,
        "depth": depth_of(shapes, "blocks."),
        "mlp_dim": hidden,
        "pool": pool,
        "channels": channels,
        "block": "serial",
        "qk_norm": "blocks.0.attn.q_norm.weight" in shapes,
        "qkv_bias": bool(shapes.keys() & {"blocks.0.attn.q_bias", "blocks.0.attn.qkv.bias"}),
        "norm_bias": norm_bias(shapes, "blocks.0.norm1", known),
        "norm_eps": 1e-5 if positions == "rope" else 1e-6,
        "pre_norm": "norm_pre.weight" in shapes,
        "final_norm": final_norm_of(shapes),
        "mlp": "swiglu" if gated else "gelu",
        "attention_out_norm": "blocks.0.attn.norm.weight" in shapes,
        "mlp_out_norm": "blocks.0.mlp.norm.weight" in shapes,
        "positions": positions,
        "registers": registers + ("cls_token" in shapes) - (pool == "cls"),
        "layer_scale": 1e-5 if "blocks.0.gamma_1" in shapes else None,
    }
    if positions == "rope":
        known = {"heads": heads_of_dinov3(dim), **known}
    return config_from(heads_known(found, known), known)


def assumed(config: ViTConfig) -> dict[str, Any]:
    """Return what no shape tells: beside the usual the pooling, the size of images, and the form of its positions."""
    return untold(config, "pool", "image_size", "positions")
