"""Key mapping for timm's `Eva`: models with rotary positions or separate query, key and value projections.

    EVA          DINOv3 (arXiv 2508.10104) and `vit_*_rope_reg*_gap_*`, with only rotary positions
    EVA02        EVA (arXiv 2211.07636), and EVA-02 (arXiv 2303.11331), tiny and small, with learned positions
    EVA02_LARGE  EVA-02, base and larger
    PERCEPTION   Perception Encoders (`vit_pe_core_*`, arXiv 2504.13181)

Except in DINOv3, timm rotates neighboring channels (2c, 2c + 1) of a head, and MegaVit (c, c + half). The channels of
queries, keys, values and the output projection's input are permuted accordingly.
"""

from dataclasses import replace
from typing import Any

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings import timm_vit
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat
from megavit.weights.pretrained.mappings.config_from_shapes import (
    CheckpointFacts,
    Fields,
    dinov3_heads,
    undetermined_fields,
)
from megavit.weights.pretrained.mappings.key_mapping import Condition, KeyRule, rule
from megavit.weights.pretrained.mappings.timm_settings import read_timm_settings
from megavit.weights.pretrained.mappings.timm_vit import (
    MODULES,
    OUTSIDE,
    SCALES,
    outside_fields,
    serial_fields,
    timm_fields,
)

IMAGE_SIZE = 256
# An MLP that is wider by more than this factor indicates EVA-02 enormous, which is post-norm.
ENORMOUS = 8
KERNEL = "patch_embed.proj.weight"


def qkv_rules(weight: str | list[str], bias: str, when: Condition | None) -> tuple[KeyRule, ...]:
    """Return the rules of query, key and value projections, with biases for all of them or for all but keys."""
    query, value = (f"blocks.{{i}}.attn.{name}{bias}: (H K/2 2) -> H 2 K/2" for name in "qv")
    fused = "blocks.{i}.attn.qkv.bias: (3H K/2 2) -> 3H 2 K/2"
    return (
        rule(weight, "transformer.layers.{i}.attention.to_qkv.weight", when=when),
        rule([query, "0: I", value], "transformer.layers.{i}.attention.to_qkv.bias", instead=fused, when=when),
    )


def interleaved(when: Condition | None = None) -> tuple[KeyRule, ...]:
    """Return the rules of attention whose rotations act on neighboring channels."""
    ours = "transformer.layers.{i}.attention"
    norms = {"norm": "out_norm", "q_norm": "query_norm", "k_norm": "key_norm"}
    axes = {"norm": "(H K/2 2) -> H 2 K/2", "q_norm": "(K/2 2) -> 2 K/2", "k_norm": "(K/2 2) -> 2 K/2"}
    return (
        *qkv_rules("blocks.{i}.attn.qkv.weight: (3H K/2 2) D -> 3H 2 K/2 D", "_bias", when),
        rule("blocks.{i}.attn.proj.weight: D (H K/2 2) -> D H 2 K/2", f"{ours}.out.weight", when=when),
        *(
            rule(f"blocks.{{i}}.attn.{theirs}.{last}: {axes[theirs]}", f"{ours}.{name}.{last}", when=when)
            for theirs, name in norms.items()
            for last in ("weight", "bias")
        ),
    )


def gates(when: Condition, *, fused: bool) -> tuple[KeyRule, ...]:
    """Return the rules of a gated MLP with separate input projections, or, if `fused`, a single one in some files."""
    into = "transformer.layers.{i}.mlp.into"
    return tuple(
        rule(
            [f"blocks.{{i}}.mlp.{name}.{last}: M{axes}" for name in ("fc1_g", "fc1_x")],
            f"{into}.{last}",
            instead=f"blocks.{{i}}.mlp.fc1.{last}: 2M{axes}" if fused else (),
            when=when,
        )
        for last, axes in (("weight", " D"), ("bias", ""))
    )


def scales(when: Condition | None = None) -> tuple[KeyRule, ...]:
    return tuple(rule(f"blocks.{{i}}.gamma_{i}: D", scale, when=when) for i, scale in enumerate(SCALES, start=1))


def is_rotary(config: ViTConfig) -> bool:
    return config.design.rotary


EVA_RULES = (
    *OUTSIDE,
    *scales(),
    *interleaved(when=lambda config: config.design.positions == "rope_grid"),
    rule(
        ["blocks.{i}.attn.q_bias: I", "0: I", "blocks.{i}.attn.v_bias: I"],
        "transformer.layers.{i}.attention.to_qkv.bias",
        instead="blocks.{i}.attn.qkv.bias: 3I",
    ),
    *gates(lambda config: config.design.mlp == "swiglu", fused=True),
    *MODULES,
)
# Models with a norm in their MLP have separate projections, which others fuse.
EVA02_RULES = (
    *OUTSIDE,
    *scales(),
    *qkv_rules(
        [f"blocks.{{i}}.attn.{name}_proj.weight: (H K/2 2) D -> H 2 K/2 D" for name in "qkv"],
        "_proj.bias",
        lambda config: config.design.mlp_out_norm,
    ),
    *interleaved(),
    *gates(lambda config: config.design.mlp_out_norm and config.design.mlp == "swiglu", fused=False),
    *MODULES,
)
PERCEPTION_RULES = (*interleaved(is_rotary), *scales(is_rotary), *timm_vit.SERIAL)


def fields_of_eva(facts: CheckpointFacts) -> Fields:
    """Return the config fields of a model with only rotary positions, with timm's mean pooling unless overridden."""
    if "blocks.0.attn.qkv.bias" in facts and "positions" not in facts.overrides:
        raise BundleError(
            "the checkpoint has one of several kinds of rotary positions (timm's vit_*_rope_*), and its tensors do not "
            "show which: put its config.json in the same folder"
        )
    has_class = "cls_token" in facts
    positions = facts.overrides.get("positions", "rope" if has_class else "rope_grid")
    facts.check_settings({"block": ["serial"], "positions": ["rope", "rope_grid"]})
    pool = facts.overrides.get("pool", "mean")
    fields = timm_fields(facts, "blocks.0.mlp.fc2") | serial_fields(facts)
    fields |= {
        "image_size": IMAGE_SIZE,
        "pool": pool,
        "norm_eps": 1e-5 if positions == "rope" else 1e-6,
        "positions": positions,
        "registers": facts.tokens("reg_token") + has_class - (pool in ("cls", "cls_mean")),
        "layer_scale": 1e-5 if "blocks.0.gamma_1" in facts else None,
    }
    if positions == "rope":
        fields["heads"] = dinov3_heads(fields["dim"])
    return fields


def fields_of_eva02(facts: CheckpointFacts) -> Fields:
    """Return the fields of EVA, or of EVA-02 with rotary positions if the MLP is SwiGLU."""
    hidden, dim = facts.shape("blocks.0.mlp.fc2.weight", axes=2)[1], facts.shape(KERNEL, axes=4)[0]
    if hidden > ENORMOUS * dim and "block" not in facts.overrides:
        raise BundleError(
            "the checkpoint looks like EVA-02 enormous, whose blocks normalize after their branches, which megavit "
            "does not support: if it is another model, put its config.json in the same folder"
        )
    facts.check_settings({"block": ["serial"], "positions": ["learned", "learned_rope"]})
    pool = facts.overrides.get("pool", "mean" if "fc_norm.weight" in facts else "cls")
    fields = timm_fields(facts, "blocks.0.mlp.fc2") | serial_fields(facts)
    patches = facts.shape("pos_embed", axes=3)[1] - 1
    fields |= {
        "image_size": facts.image_size(patches, fields["patch_size"]),
        "pool": pool,
        "qkv_bias": True,
        "positions": "learned_rope" if fields["mlp"] == "swiglu" else "learned",
        "prefix_positions": "all",
        "registers": int(pool not in ("cls", "cls_mean")),
        "layer_scale": 1e-5 if "blocks.0.gamma_1" in facts else None,
    }
    return fields


def fields_of_perception(facts: CheckpointFacts) -> Fields:
    """Return the fields of a Perception Encoder, or of a plain model if the settings say so."""
    if "positions" not in facts.overrides:
        raise BundleError(
            "the checkpoint may be a Perception Encoder, which also has rotary positions, or a plain model with "
            "attention pooling, and its tensors do not show which: put its config.json in the same folder"
        )
    if facts.overrides["positions"] == "learned":
        return timm_vit.fields_of_serial(facts)
    facts.check_settings({"block": ["serial"], "positions": ["learned_rope_native"]})
    fields = outside_fields(facts, "blocks.0.mlp.fc2") | serial_fields(facts)
    pooled = facts.shape("attn_pool.mlp.fc1.weight", axes=2)[0]
    if pooled != fields["mlp_dim"]:
        raise BundleError(
            f"the checkpoint's attention pooling has an MLP of {pooled} channels, but its layers have MLPs of "
            f"{fields['mlp_dim']}: in megavit's model, they must be equal"
        )
    fields |= {"mlp": "gelu", "layer_scale": 1.0 if "blocks.0.gamma_1" in facts else None}
    (height, width), (patch_height, patch_width) = fields["image_size"], fields["patch_size"]
    grid = height // patch_height, width // patch_width
    if facts.overrides.get("reference", grid) != grid:
        raise BundleError(
            f"config.json has ref_feat_shape {facts.overrides['reference']} for a grid of {grid} patches; megavit "
            "supports only the model's own grid for these positions"
        )
    return fields


def undetermined_in_eva02(config: ViTConfig) -> dict[str, Any]:
    """Return the fields that no shape determines, including the pooling and the form of rotary positions."""
    return undetermined_fields(config, "pool", *(("positions",) if config.design.rotary else ()))


EVA = CheckpointFormat(
    name="timm's Eva",
    signature=(KERNEL, "blocks.0.norm1.weight", "blocks.0.attn.qkv.weight"),
    rules=EVA_RULES,
    fields=fields_of_eva,
    settings=read_timm_settings,
    undetermined=lambda config: undetermined_fields(config, "pool", "image_size", "positions"),
    head="head",
)
EVA02 = CheckpointFormat(
    name="timm's EVA-02",
    signature=(KERNEL, "pos_embed", "blocks.0.attn.qkv.weight", "blocks.0.attn.q_bias"),
    rules=EVA02_RULES,
    fields=fields_of_eva02,
    settings=read_timm_settings,
    undetermined=undetermined_in_eva02,
    head="head",
)
EVA02_LARGE = replace(
    EVA02,
    name="timm's EVA-02, large",
    signature=(KERNEL, "pos_embed", "blocks.0.attn.q_proj.weight", "blocks.0.mlp.norm.weight"),
)
PERCEPTION = CheckpointFormat(
    name="timm, with attention pooling",
    signature=(KERNEL, "pos_embed", "norm_pre.weight", "attn_pool.latent", "blocks.0.attn.qkv.weight"),
    rules=PERCEPTION_RULES,
    fields=fields_of_perception,
    settings=read_timm_settings,
    undetermined=timm_vit.undetermined,
    head="head",
)
