"""timm's `Eva` with learned positions: EVA (arXiv 2211.07636) and EVA-02 (arXiv 2303.11331) of tiny and small size.

Rotations there turn neighbouring channels (2c, 2c + 1) of a head, ours (c, c + half): the channels of queries, keys and
values are put into our order, and so are those that the output projection takes.
"""

from typing import Any

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.weights.keys import Piece, Rule, Shapes, complete
from megavit.weights.peers.shapes import (
    Known,
    classes_of,
    config_from,
    depth_of,
    heads_known,
    image_of,
    shape_of,
    untold,
)
from megavit.weights.peers.timm_vit import MODULES, PROJECTION, prefix

TOLD_BY = ("patch_embed.proj.weight", "pos_embed", "blocks.0.attn.qkv.weight", "blocks.0.attn.q_bias")

# (dim, depth) of the one whose blocks are others, though its tensors' names are the same.
ENORMOUS = (1792, 64)


def table(config: ViTConfig) -> list[Rule]:
    """For weights of a serial design. Sizes with a norm in their MLP have projections apart that others have as one."""
    design, dim, hidden = config.design, config.dim, config.mlp_dim
    heads, half = config.heads, config.dim_head // 2
    inner, apart = 2 * heads * half, design.mlp_out_norm
    per_channel = ((inner,), (heads, half, 2), (0, 2, 1))
    rules = [
        Rule([Piece("patch_embed.proj.weight", (dim, config.channels, *config.patch_hw))], [PROJECTION + ".weight"]),
        *prefix(config),
        positions(config),
    ]
    for i in range(config.depth):
        theirs, ours = f"blocks.{i}.attn", f"transformer.layers.{i}.attention"
        if apart:
            weight = ((inner, dim), (heads, half, 2, dim), (0, 2, 1, 3))
            weights = [Piece(f"{theirs}.{name}_proj.weight", *weight) for name in "qkv"]
        else:
            weights = [Piece(f"{theirs}.qkv.weight", (3 * inner, dim), (3 * heads, half, 2, dim), (0, 2, 1, 3))]
        rules.append(Rule(weights, [f"{ours}.to_qkv.weight"]))
        bias = "_proj.bias" if apart else "_bias"
        query, value = (Piece(f"{theirs}.{name}{bias}", *per_channel) for name in "qv")
        rules.append(Rule([query, Piece(None, (inner,)), value], [f"{ours}.to_qkv.bias"]))
        out = Piece(f"{theirs}.proj.weight", (dim, inner), (dim, heads, half, 2), (0, 1, 3, 2))
        rules.append(Rule([out], [f"{ours}.out.weight"]))
        if design.attention_out_norm:
            for last in ("weight", "bias"):
                rules.append(Rule([Piece(f"{theirs}.norm.{last}", *per_channel)], [f"{ours}.out_norm.{last}"]))
        if apart and design.mlp == "swiglu":
            for last, shape in (("weight", (hidden, dim)), ("bias", (hidden,))):
                pieces = [Piece(f"blocks.{i}.mlp.{name}.{last}", shape) for name in ("fc1_g", "fc1_x")]
                rules.append(Rule(pieces, [f"transformer.layers.{i}.mlp.into.{last}"]))
    modules = {
        "norm" if design.final_norm == "tokens" else "fc_norm": "norm",
        "patch_embed.proj": PROJECTION,
        "blocks.{i}.mlp.norm": "transformer.layers.{i}.mlp.out_norm",
    }
    return complete(config, rules, MODULES | modules)


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
    if (dim, depth_of(shapes, "blocks.")) == ENORMOUS:
        raise BundleError(
            "the checkpoint is EVA-02 of enormous size, whose blocks normalise behind their branches; megavit has no "
            "such model"
        )
    patch_hw = (patch[0], patch[1])
    hidden = shape_of(shapes, "blocks.0.mlp.fc2.weight", axes=2)[1]
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
        "qk_norm": False,
        "qkv_bias": True,
        "norm_bias": True,
        "final_norm": "pooled" if "fc_norm.weight" in shapes else "tokens",
        "mlp": "swiglu" if gated else "gelu",
        "attention_out_norm": "blocks.0.attn.norm.weight" in shapes,
        "mlp_out_norm": "blocks.0.mlp.norm.weight" in shapes,
        "positions": "learned_rope" if gated else "learned",
        "prefix_positions": "all",
        "registers": int(pool != "cls"),
    }
    return config_from(heads_known(found, known), known)


def assumed(config: ViTConfig) -> dict[str, Any]:
    """Return what no shape tells, among it the pooling."""
    return untold(config, "pool")
