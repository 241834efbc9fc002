"""Key mapping for timm's `VisionTransformer` with serial or parallel blocks, such as `vit_*` and `deit*`."""

import math
from typing import Any

from megavit.config.vit import PrefixPositions, ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat
from megavit.weights.pretrained.mappings.config_from_shapes import CheckpointFacts, Fields, undetermined_fields
from megavit.weights.pretrained.mappings.key_mapping import renames, rule
from megavit.weights.pretrained.mappings.timm_settings import read_timm_settings

SCALES = ("transformer.layers.{i}.attention_scale.factor", "transformer.layers.{i}.mlp_scale.factor")
POSITIONS = (
    "prefix_tokens.class_position",
    "prefix_tokens.register_positions",
    "positions.table",
    "positions.learned.table",
)
MODULES = renames({
    "norm_pre": "pre_norm",
    "blocks.{i}.norm1": "transformer.layers.{i}.attention_norm",
    "blocks.{i}.attn.qkv": "transformer.layers.{i}.attention.to_qkv",
    "blocks.{i}.attn.q_norm": "transformer.layers.{i}.attention.query_norm",
    "blocks.{i}.attn.k_norm": "transformer.layers.{i}.attention.key_norm",
    "blocks.{i}.attn.norm": "transformer.layers.{i}.attention.out_norm",
    "blocks.{i}.attn.proj": "transformer.layers.{i}.attention.out",
    "blocks.{i}.norm2": "transformer.layers.{i}.mlp_norm",
    "blocks.{i}.mlp.fc1": "transformer.layers.{i}.mlp.into",
    "blocks.{i}.mlp.norm": "transformer.layers.{i}.mlp.out_norm",
    "blocks.{i}.mlp.fc2": "transformer.layers.{i}.mlp.out",
    "attn_pool.q": "pool.to_query",
    "attn_pool.kv": "pool.to_key_value",
    "attn_pool.proj": "pool.out",
    "attn_pool.norm": "pool.norm",
    "attn_pool.mlp.fc1": "pool.mlp_into",
    "attn_pool.mlp.fc2": "pool.mlp_out",
    "head": "mlp_head",
})  # fmt: skip
LAST_NORM = (
    *renames({"norm": "norm"}, when=lambda config: config.design.final_norm == "tokens"),
    *renames({"fc_norm": "norm"}, when=lambda config: config.design.final_norm == "pooled"),
)


def keeps_class_token(config: ViTConfig) -> bool:
    """Return whether timm stores a class token that pooling ignores: in DINOv3, or if prefix tokens have positions."""
    form, prefix = config.design.positions, config.design.prefix_positions
    return form == "rope" or (form != "rope_grid" and prefix == "all")


# A class token that is not used for pooling is our first register; a file may have it or not.
_REGISTERS, _WITH_CLASS = "reg_token: 1 R D", ("cls_token: 1 1 D", "reg_token: 1 S D")
OUTSIDE = (
    rule("patch_embed.proj.weight: D C P Q", "patch_embedding.projection.weight"),
    rule("0: D", "patch_embedding.projection.bias", when=lambda config: config.design.pre_norm),
    rule("patch_embed.proj.bias: D", "patch_embedding.projection.bias"),
    rule("cls_token: 1 1 D", "prefix_tokens.class_token"),
    rule(_REGISTERS, "prefix_tokens.registers", when=lambda config: config.has_class_token),
    rule(_WITH_CLASS, "prefix_tokens.registers", instead=_REGISTERS, when=keeps_class_token),
    rule(_REGISTERS, "prefix_tokens.registers", instead=_WITH_CLASS),
    rule("pos_embed: 1 * D", POSITIONS),
    rule("attn_pool.latent: 1 1 D", "pool.query"),
    *LAST_NORM,
)
SERIAL = (
    *OUTSIDE,
    rule("blocks.{i}.ls1.gamma: D", SCALES[0]),
    rule("blocks.{i}.ls2.gamma: D", SCALES[1]),
    *MODULES,
)
# `ParallelScalingBlock` has one input projection, (MLP | query | key | value), and one scale.
PARALLEL = (
    *OUTSIDE,
    rule(
        "blocks.{i}.in_proj.weight: M+3I D",
        ["transformer.layers.{i}.mlp.into.weight", "transformer.layers.{i}.attention.to_qkv.weight"],
    ),
    rule(
        "blocks.{i}.in_proj.bias: M+3I",
        ["transformer.layers.{i}.mlp.into.bias", "transformer.layers.{i}.attention.to_qkv.bias"],
        when=lambda config: config.design.qkv_bias,
    ),
    rule("blocks.{i}.mlp_bias: M", "transformer.layers.{i}.mlp.into.bias"),
    *(rule("blocks.{i}.ls.gamma: D", scale) for scale in SCALES),
    *renames({
        "blocks.{i}.in_norm": "transformer.layers.{i}.norm",
        "blocks.{i}.q_norm": "transformer.layers.{i}.attention.query_norm",
        "blocks.{i}.k_norm": "transformer.layers.{i}.attention.key_norm",
        "blocks.{i}.attn_out_proj": "transformer.layers.{i}.attention.out",
        "blocks.{i}.mlp_out_proj": "transformer.layers.{i}.mlp.out",
    }),
    *MODULES,
)  # fmt: skip
# Tensors that post-norm models lack.
NOT_POST_NORM = {"cls_token", "reg_token", "norm_pre.weight", "blocks.0.attn.qkv.bias", "blocks.0.ls1.gamma"}


def fields_of_serial(facts: CheckpointFacts) -> Fields:
    """Return the config fields of a model with serial blocks."""
    if "fc_norm.weight" in facts and not facts.shapes.keys() & NOT_POST_NORM and "block" not in facts.overrides:
        raise BundleError(
            "the checkpoint's blocks may have norms after their branches (timm's vit_*_rpn_*), which megavit does not "
            "support, or before them, and its tensors do not show which: put its config.json in the same folder"
        )
    facts.check_settings({"block": ["serial"], "positions": ["learned"]})
    fields = outside_fields(facts, "blocks.0.mlp.fc2") | serial_fields(facts)
    return fields | {"layer_scale": 1.0 if "blocks.0.ls1.gamma" in facts else None}


def fields_of_parallel(facts: CheckpointFacts) -> Fields:
    """Return the config fields of a model with parallel blocks."""
    facts.check_settings({"block": ["parallel"], "positions": ["learned"]})
    return outside_fields(facts, "blocks.0.mlp_out_proj") | {
        "block": "parallel",
        "qk_norm": "blocks.0.q_norm.weight" in facts,
        "qkv_bias": "blocks.0.in_proj.bias" in facts,
        "norm_bias": has_norm_bias(facts, "blocks.0.in_norm"),
        "mlp": "gelu",
        "layer_scale": 1.0 if "blocks.0.ls.gamma" in facts else None,
    }


def outside_fields(facts: CheckpointFacts, mlp_out: str) -> Fields:
    """Return the fields that the tensors outside the blocks determine.

    Pooling is by attention if its tensors exist, by the class token if the norm comes before pooling, else by the mean.
    """
    fields = timm_fields(facts, mlp_out)
    has_class, final_norm = "cls_token" in facts, fields["final_norm"]
    by_class = has_class and final_norm == "tokens"
    pool = facts.overrides.get("pool") or ("map" if "attn_pool.latent" in facts else "cls" if by_class else "mean")
    prefix_tokens = has_class + facts.tokens("reg_token")
    count = facts.shape("pos_embed", axes=3)[1]
    prefix_positions = find_prefix_positions(facts, count, prefix_tokens, fields["patch_size"])
    patches = count - (prefix_tokens if prefix_positions == "all" else 0)
    return fields | {
        "image_size": facts.image_size(patches, fields["patch_size"]),
        "pool": pool,
        "norm_eps": 1e-5 if fields["pre_norm"] else 1e-6,  # CLIP's
        "prefix_positions": prefix_positions,
        "registers": prefix_tokens - (pool in ("cls", "cls_mean")),
    }


def timm_fields(facts: CheckpointFacts, mlp_out: str) -> Fields:
    """Return the fields common to all timm models; raise a BundleError unless there is one final norm."""
    norms = [stage for name, stage in (("norm", "tokens"), ("fc_norm", "pooled")) if f"{name}.weight" in facts]
    fields = facts.plain_fields(
        kernel="patch_embed.proj.weight", layers="blocks.", mlp_out=f"{mlp_out}.weight", head="head.weight"
    )
    if len(norms) != 1:
        raise BundleError(
            f"the checkpoint has {'two norms' if norms else 'no norm'} after its layers (norm.weight, fc_norm.weight), "
            "but megavit's model has one"
        )
    return fields | {"pre_norm": "norm_pre.weight" in facts, "final_norm": norms[0]}


def serial_fields(facts: CheckpointFacts) -> Fields:
    """Return the fields that the tensors of a serial block determine."""
    hidden = facts.shape("blocks.0.mlp.fc2.weight", axes=2)[1]
    gated = "blocks.0.mlp.fc1_g.weight" in facts or facts.shape("blocks.0.mlp.fc1.weight", axes=2)[0] != hidden
    return {
        "qk_norm": "blocks.0.attn.q_norm.weight" in facts,
        "qkv_bias": bool(facts.shapes.keys() & {"blocks.0.attn.qkv.bias", "blocks.0.attn.q_bias"}),
        "norm_bias": has_norm_bias(facts, "blocks.0.norm1"),
        "mlp": "swiglu" if gated else "gelu",
        "attention_out_norm": "blocks.0.attn.norm.weight" in facts,
        "mlp_out_norm": "blocks.0.mlp.norm.weight" in facts,
    }


def has_norm_bias(facts: CheckpointFacts, norm: str) -> bool:
    """Return whether a norm has a bias; raise a BundleError if it has none and its kind is unknown."""
    if f"{norm}.bias" not in facts and "norm" not in facts.overrides:
        raise BundleError(
            'the checkpoint has norms without bias, which may be "layer" or "rms": set it with megavit convert '
            "--norm, or put its config.json in the same folder"
        )
    return f"{norm}.bias" in facts


def find_prefix_positions(
    facts: CheckpointFacts, count: int, prefix_tokens: int, patch_hw: tuple[int, int]
) -> PrefixPositions:
    """Return whether "all" prefix tokens have positions or "none"; raise a BundleError if both are possible."""
    if not prefix_tokens:
        return "all"
    if "image_size" in facts.overrides:
        height, width = facts.image_size(0, patch_hw)
        return "none" if count == (height // patch_hw[0]) * (width // patch_hw[1]) else "all"
    only_patches, with_prefix = (n > 0 and math.isqrt(n) ** 2 == n for n in (count, count - prefix_tokens))
    if only_patches and with_prefix:
        raise BundleError(
            f"the checkpoint has {count} positions, which may or may not include those of {prefix_tokens} prefix "
            "tokens: set the image size with megavit convert --image-size HEIGHTxWIDTH"
        )
    return "none" if only_patches else "all"


def undetermined(config: ViTConfig) -> dict[str, Any]:
    """Return the fields that no shape determines, including the pooling, or which tokens attention pooling sees."""
    if config.pool == "map" and config.design.registers:
        return undetermined_fields(config) | {"attention pooling over": "patches only"}
    return undetermined_fields(config, *(() if config.pool == "map" else ("pool",)))


TIMM_VIT = CheckpointFormat(
    name="timm",
    signature=("patch_embed.proj.weight", "pos_embed", "blocks.0.attn.qkv.weight"),
    rules=SERIAL,
    fields=fields_of_serial,
    unsupported={
        "head_dist.weight": "is a distilled DeiT with two classifiers, whose outputs are averaged, but megavit's model "
        "has one: use one that is not distilled"
    },
    settings=read_timm_settings,
    undetermined=undetermined,
    head="head",
)
TIMM_PARALLEL = CheckpointFormat(
    name="timm's parallel blocks",
    signature=("patch_embed.proj.weight", "pos_embed", "blocks.0.in_proj.weight", "blocks.0.mlp_out_proj.weight"),
    rules=PARALLEL,
    fields=fields_of_parallel,
    settings=read_timm_settings,
    undetermined=undetermined,
    head="head",
)
