"""timm's Perception Encoders (`vit_pe_core_*`, arXiv 2504.13181), and others with attention pooling and a norm before.

Their tensors have the same names, and only the settings beside them tell which they are.
"""

from typing import Any

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings import timm_vit
from megavit.weights.pretrained.mappings.key_mapping import Piece, Rule, Shapes, complete
from megavit.weights.pretrained.mappings.shapes import Known, check_said, config_from, heads_known, shape_of
from megavit.weights.pretrained.mappings.timm_eva02 import interleaved
from megavit.weights.pretrained.mappings.timm_vit import MODULES, assumed, found_outside, last_norm, norm_bias, outside

__all__ = ["TOLD_BY", "assumed", "config_of", "table"]

TOLD_BY = (
    "patch_embed.proj.weight",
    "pos_embed",
    "norm_pre.weight",
    "attn_pool.latent",
    "blocks.0.attn.qkv.weight",
)


def table(config: ViTConfig) -> list[Rule]:
    """For weights of a serial design; theirs have a bias of queries, keys and values."""
    if config.design.positions == "learned":
        return timm_vit.table(config)
    rules = outside(config)
    for i in range(config.depth):
        rules += interleaved(config, i)
        for theirs, ours in (("gamma_1", "attention_scale"), ("gamma_2", "mlp_scale")):
            if config.design.layer_scale is not None:
                piece = Piece(f"blocks.{i}.{theirs}", (config.dim,))
                rules.append(Rule([piece], [f"transformer.layers.{i}.{ours}.factor"]))
    return complete(config, rules, MODULES | last_norm(config))


def config_of(shapes: Shapes, known: Known) -> ViTConfig:
    """Return the config of a Perception Encoder, or of a plain model if `known` says so.

    Raises:
        BundleError: for a tensor that is missing, when nothing says which of the two it is, and for one whose
            pooling, or grid of rotary positions, is not as ours.
    """
    if "positions" not in known:
        raise BundleError(
            "the checkpoint may be a Perception Encoder, whose positions are rotary as well, or a plain model with "
            "attention pooling: its tensors do not tell. Put its config.json beside it"
        )
    if known["positions"] == "learned":
        return timm_vit.config_of(shapes, known)
    check_said(known, {"block": ["serial"], "positions": ["learned_rope_native"]})
    hidden = shape_of(shapes, "blocks.0.mlp.fc2.weight", axes=2)[1]
    pooled = shape_of(shapes, "attn_pool.mlp.fc1.weight", axes=2)[0]
    if pooled != hidden:
        raise BundleError(
            f"the checkpoint's attention pooling has an MLP of {pooled} channels, and its layers have MLPs of "
            f"{hidden}; megavit's have the same width"
        )
    found: dict[str, Any] = found_outside(shapes, known) | {
        "mlp_dim": hidden,
        "block": "serial",
        "qk_norm": "blocks.0.attn.q_norm.weight" in shapes,
        "qkv_bias": "blocks.0.attn.qkv.bias" in shapes,
        "norm_bias": norm_bias(shapes, "blocks.0.norm1", known),
        "mlp": "gelu",
        "layer_scale": 1.0 if "blocks.0.gamma_1" in shapes else None,
    }
    config = config_from(heads_known(found, known), known)
    if known.get("reference", config.grid) != config.grid:
        raise BundleError(
            f"config.json has ref_feat_shape {known['reference']} for a grid of {config.grid} patches; megavit's such "
            "positions count those of the model's own grid"
        )
    return config
