"""timm's `VisionTransformer` of `ParallelScalingBlock`s (`vit_pwee_*`, `vit_*_xp_*`), which are our parallel blocks.

Theirs holds the projections into MLP and attention as one, (MLP | query | key | value), and has one LayerScale.
"""

from megavit.config.vit import ViTConfig
from megavit.weights.pretrained.mappings.key_mapping import Piece, Rule, Shapes, complete
from megavit.weights.pretrained.mappings.shapes import Known, check_said, config_from, heads_known, shape_of
from megavit.weights.pretrained.mappings.timm_vit import MODULES, assumed, found_outside, last_norm, norm_bias, outside

__all__ = ["TOLD_BY", "assumed", "config_of", "table"]

TOLD_BY = ("patch_embed.proj.weight", "pos_embed", "blocks.0.in_proj.weight", "blocks.0.mlp_out_proj.weight")
BLOCK = {
    "blocks.{i}.in_norm": "transformer.layers.{i}.norm",
    "blocks.{i}.q_norm": "transformer.layers.{i}.attention.query_norm",
    "blocks.{i}.k_norm": "transformer.layers.{i}.attention.key_norm",
    "blocks.{i}.attn_out_proj": "transformer.layers.{i}.attention.out",
    "blocks.{i}.mlp_out_proj": "transformer.layers.{i}.mlp.out",
}


def table(config: ViTConfig) -> list[Rule]:
    """For weights of a parallel design."""
    design, dim, hidden = config.design, config.dim, config.mlp_dim
    inner = config.heads * config.dim_head
    rules = outside(config)
    for i in range(config.depth):
        theirs, ours = f"blocks.{i}", f"transformer.layers.{i}"
        into, to_qkv = f"{ours}.mlp.into", f"{ours}.attention.to_qkv"
        rules.append(
            Rule(
                [Piece(f"{theirs}.in_proj.weight", (hidden + 3 * inner, dim))],
                [f"{into}.weight", f"{to_qkv}.weight"],
            )
        )
        if design.qkv_bias:
            bias = Piece(f"{theirs}.in_proj.bias", (hidden + 3 * inner,))
            rules.append(Rule([bias], [f"{into}.bias", f"{to_qkv}.bias"]))
        else:
            rules.append(Rule([Piece(f"{theirs}.mlp_bias", (hidden,))], [f"{into}.bias"]))
        if design.layer_scale is not None:
            for scale in ("attention_scale", "mlp_scale"):
                rules.append(Rule([Piece(f"{theirs}.ls.gamma", (dim,))], [f"{ours}.{scale}.factor"]))
    outer = {theirs: ours for theirs, ours in MODULES.items() if not theirs.startswith("blocks.")}
    return complete(config, rules, outer | BLOCK | last_norm(config))


def config_of(shapes: Shapes, known: Known) -> ViTConfig:
    """Return the config; what no shape tells is as usual, unless `known` says otherwise.

    Raises:
        BundleError: for a tensor that is missing, and for norms that could be of either kind.
    """
    check_said(known, {"block": ["parallel"], "positions": ["learned"]})
    found = found_outside(shapes, known) | {
        "mlp_dim": shape_of(shapes, "blocks.0.mlp_out_proj.weight", axes=2)[1],
        "block": "parallel",
        "qk_norm": "blocks.0.q_norm.weight" in shapes,
        "qkv_bias": "blocks.0.in_proj.bias" in shapes,
        "norm_bias": norm_bias(shapes, "blocks.0.in_norm", known),
        "mlp": "gelu",
        "layer_scale": 1.0 if "blocks.0.ls.gamma" in shapes else None,
    }
    return config_from(heads_known(found, known), known)
