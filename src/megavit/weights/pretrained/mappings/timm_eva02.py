"""timm's `Eva` with learned positions: EVA (arXiv 2211.07636) and EVA-02 (arXiv 2303.11331) of tiny and small size.

Rotations there turn neighboring channels (2c, 2c + 1) of a head, ours (c, c + half): the channels of queries, keys and
values are put into our order, and so are those that the output projection takes.
"""

from typing import Any

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.key_mapping import Piece, Rule, Shapes, complete
from megavit.weights.pretrained.mappings.shapes import (
    Known,
    check_said,
    classes_of,
    config_from,
    depth_of,
    final_norm_of,
    heads_known,
    image_of,
    shape_of,
    untold,
)
from megavit.weights.pretrained.mappings.timm_vit import MODULES, last_norm, norm_bias, patches, prefix

TOLD_BY = ("patch_embed.proj.weight", "pos_embed", "blocks.0.attn.qkv.weight", "blocks.0.attn.q_bias")

# How much wider an MLP is than its tokens where norms stand behind the branches: EVA-02 of enormous size alone.
ENORMOUS = 8


def table(config: ViTConfig) -> list[Rule]:
    """For weights of a serial design. Sizes with a norm in their MLP have projections apart that others have as one."""
    design, hidden = config.design, config.mlp_dim
    rules = [*patches(config), *prefix(config), positions(config)]
    if config.pool == "map":
        rules.append(Rule([Piece("attn_pool.latent", (1, 1, config.dim))], ["pool.query"]))
    for i in range(config.depth):
        rules += interleaved(config, i, apart=design.mlp_out_norm)
        if design.mlp_out_norm and design.mlp == "swiglu":
            for last, shape in (("weight", (hidden, config.dim)), ("bias", (hidden,))):
                pieces = [Piece(f"blocks.{i}.mlp.{name}.{last}", shape) for name in ("fc1_g", "fc1_x")]
                rules.append(Rule(pieces, [f"transformer.layers.{i}.mlp.into.{last}"]))
    return complete(config, rules, MODULES | last_norm(config))


def interleaved(config: ViTConfig, layer: int, *, apart: bool = False) -> list[Rule]:
    """Return the rules of the attention of a layer, whose rotations turn neighboring channels.

    Args:
        config: of the model.
        layer: its number.
        apart: whether queries, keys and values are projected apart.
    """
    design, dim, heads, half = config.design, config.dim, config.heads, config.dim_head // 2
    theirs, ours = f"blocks.{layer}.attn", f"transformer.layers.{layer}.attention"
    inner = 2 * heads * half
    per_channel = ((inner,), (heads, half, 2), (0, 2, 1))
    fused = Piece(f"{theirs}.qkv.weight", (3 * inner, dim), (3 * heads, half, 2, dim), (0, 2, 1, 3))
    three = [Piece(f"{theirs}.{name}_proj.weight", (inner, dim), (heads, half, 2, dim), (0, 2, 1, 3)) for name in "qkv"]
    rules = [Rule(three if apart else [fused], [f"{ours}.to_qkv.weight"])]
    if design.qkv_bias:
        bias = "_proj.bias" if apart else "_bias"
        query, value = (Piece(f"{theirs}.{name}{bias}", *per_channel) for name in "qv")
        whole = Piece(f"{theirs}.qkv.bias", (3 * inner,), (3 * heads, half, 2), (0, 2, 1))
        rules.append(Rule([query, Piece(None, (inner,)), value], [f"{ours}.to_qkv.bias"], instead=[whole]))
    out = Piece(f"{theirs}.proj.weight", (dim, inner), (dim, heads, half, 2), (0, 1, 3, 2))
    rules.append(Rule([out], [f"{ours}.out.weight"]))
    lasts = ("weight", "bias") if design.norm == "layer" and design.norm_bias else ("weight",)
    for last in lasts:
        if design.attention_out_norm:
            rules.append(Rule([Piece(f"{theirs}.norm.{last}", *per_channel)], [f"{ours}.out_norm.{last}"]))
        for name in ("query", "key") if design.qk_norm else ():
            one_head = Piece(f"{theirs}.{name[0]}_norm.{last}", (2 * half,), (half, 2), (1, 0))
            rules.append(Rule([one_head], [f"{ours}.{name}_norm.{last}"]))
    return rules


def positions(config: ViTConfig) -> Rule:
    """Those of the tokens before the patches, then those of the patches."""
    tokens = "class_position" if config.pool == "cls" else "register_positions"
    table = "positions.learned.table" if config.design.positions == "learned_rope" else "positions.table"
    count = config.num_prefix_tokens + config.num_patches
    return Rule([Piece("pos_embed", (1, count, config.dim))], [f"prefix_tokens.{tokens}", table])


def config_of(shapes: Shapes, known: Known) -> ViTConfig:
    """Rotary where the MLP is SwiGLU, as EVA-02's is; pooled by the mean where the norm comes after pooling.

    Raises:
        BundleError: for a tensor that is missing, and for EVA-02 of enormous size.
    """
    dim, channels, *patch = shape_of(shapes, "patch_embed.proj.weight", axes=4)
    patch_hw = (patch[0], patch[1])
    hidden = shape_of(shapes, "blocks.0.mlp.fc2.weight", axes=2)[1]
    if hidden > ENORMOUS * dim and "block" not in known:
        raise BundleError(
            "the checkpoint looks like EVA-02 of enormous size, whose blocks normalize behind their branches; megavit "
            "has no such model. If it is none, put its config.json beside it"
        )
    check_said(known, {"block": ["serial"], "positions": ["learned", "learned_rope"]})
    gated = "blocks.0.mlp.fc1_g.weight" in shapes or shape_of(shapes, "blocks.0.mlp.fc1.weight", axes=2)[0] != hidden
    pool = known.get("pool", "mean" if "fc_norm.weight" in shapes else "cls")
    found: dict[str, Any] = {
        "image_size": image_of(shape_of(shapes, "pos_embed", axes=3)[1] - 1, patch_hw, known),
        "patch_size": patch_hw,
        "num_classes": classes_of(shapes, "head.weight"),
        "dim": dim,
        "depth": depth_of(shapes, "blocks."),
        "mlp_dim": hidden,
        "pool": pool,
        "channels": channels,
        "block": "serial",
        "qk_norm": "blocks.0.attn.q_norm.weight" in shapes,
        "qkv_bias": True,
        "norm_bias": norm_bias(shapes, "blocks.0.norm1", known),
        "pre_norm": "norm_pre.weight" in shapes,
        "final_norm": final_norm_of(shapes),
        "mlp": "swiglu" if gated else "gelu",
        "attention_out_norm": "blocks.0.attn.norm.weight" in shapes,
        "mlp_out_norm": "blocks.0.mlp.norm.weight" in shapes,
        "positions": "learned_rope" if gated else "learned",
        "prefix_positions": "all",
        "registers": int(pool != "cls"),
    }
    return config_from(heads_known(found, known), known)


def assumed(config: ViTConfig) -> dict[str, Any]:
    """Return what no shape tells, among it the pooling and the form of rotary positions."""
    return untold(config, "pool", *(("positions",) if config.design.rotary else ()))
