"""Convert a model to timm: its architecture, `model_args` and tensors."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.model.statistics import parameter_shapes
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat
from megavit.weights.pretrained.mappings.config_from_shapes import get_field
from megavit.weights.pretrained.mappings.key_mapping import ResolvedRule, to_theirs
from megavit.weights.pretrained.mappings.timm_eva import EVA, EVA02, PERCEPTION
from megavit.weights.pretrained.mappings.timm_settings import POOLS, POSITIONS
from megavit.weights.pretrained.mappings.timm_vit import TIMM_PARALLEL, TIMM_VIT, keeps_class_token

# Architectures that supply timm's settings that JSON cannot express.
PLAIN_BY_EPS = {1e-6: "vit_base_patch16_224", 1e-5: "vit_base_patch16_clip_224"}
EVA_BY_EPS = {1e-6: "vit_base_patch16_rope_reg1_gap_256", 1e-5: "vit_base_patch16_dinov3"}
SWIGLU = "vit_giant_patch14_dinov2"
PARALLEL = "vit_pwee_patch16_reg1_gap_256"
ACTIVATIONS = ("gelu", "gelu_tanh", "quick_gelu")


def fit_to_timm(config: ViTConfig, tensors: Mapping[str, Tensor]) -> tuple[ViTConfig, dict[str, Tensor]]:
    """Return a model with bit-identical outputs that timm supports, with zero biases in LayerNorms that have none."""
    state, design = dict(tensors), config.design
    if (
        config.pool == "cls"
        and design.registers
        and (design.positions, design.prefix_positions) == ("learned", "class")
    ):
        # With registers, timm's class token has no position.
        token = "prefix_tokens.class_token"
        state[token] = state[token] + state.pop("prefix_tokens.class_position")
        design = replace(design, prefix_positions="none")
    if design.norm == "layer":
        design = replace(design, norm_bias=True)
    config = replace(config, design=design)
    like = state["norm.weight"]
    for name, shape in parameter_shapes(config).items():
        if name not in state and name.endswith("norm.bias"):
            state[name] = torch.zeros(shape, dtype=like.dtype, device=like.device)
    return config, state


def timm_model_args(config: ViTConfig) -> tuple[str, dict[str, Any]]:
    """Return timm's architecture and `model_args`; raise a BundleError that lists all components it lacks."""
    faults = [
        f"  {name}: {get_field(config, name)!r}, expected {' or '.join(map(repr, values))}"
        for name, values in supported_parts(config).items()
        if get_field(config, name) not in values
    ]
    if faults:
        kind = f"with positions {config.design.positions!r} and block {config.design.block!r}"
        raise BundleError("\n".join([f"timm's Vision Transformers {kind} do not support this model:", *faults]))
    arguments = {
        "img_size": list(config.image_hw),
        "patch_size": list(config.patch_hw),
        "in_chans": config.channels,
        "global_pool": next(theirs for theirs, ours in POOLS.items() if ours == config.pool),
        "embed_dim": config.dim,
        "depth": config.depth,
        "num_heads": config.heads,
        "qkv_bias": config.design.qkv_bias,
        "qk_norm": config.design.qk_norm,
        "init_values": config.design.layer_scale,
        "dynamic_img_size": True,
    }
    architecture, more = _rotary(config) if config.design.rotary else _plain(config)
    return architecture, arguments | more


def timm_tensors(config: ViTConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return timm's tensors for a model from `fit_to_timm`; raise a BundleError for values it cannot hold."""
    rules = get_timm_format(config).key_rules(config)
    if config.design.positions in ("rope", "rope_grid", "learned_rope_native") and config.design.qkv_bias:
        rules = [_with_key_bias(rule) for rule in rules]
    return to_theirs(rules, state)


def get_timm_format(config: ViTConfig) -> CheckpointFormat:
    """Return the timm checkpoint format for a config."""
    formats = {"learned_rope_native": PERCEPTION, "learned_rope": EVA02}
    if config.design.rotary:
        return formats.get(config.design.positions, EVA)
    return TIMM_PARALLEL if config.design.block == "parallel" else TIMM_VIT


def _with_key_bias(rule: ResolvedRule) -> ResolvedRule:
    fused = [part for part in rule.instead if part.name and part.name.endswith("attn.qkv.bias")]
    return ResolvedRule(fused, rule.ours) if fused else rule


def supported_parts(config: ViTConfig) -> dict[str, tuple[Any, ...]]:
    """Return the field values that timm supports, given the other fields of `config`."""
    design, in_pool = config.design, config.pool == "map"
    parallel, gated = design.block == "parallel", design.mlp == "swiglu"
    usual = {"norm": ("layer", "rms"), "patch_norm": (False,), "stem": ("patch",)}
    usual |= {"dim_head": (config.dim / config.heads,), "pool": ("cls", "mean", "map")}
    if not design.rotary:
        limited = parallel or gated
        return usual | {
            "positions": ("learned",),
            "block": ("serial", "parallel"),
            "mlp": ACTIVATIONS if parallel else (*ACTIVATIONS, "swiglu"),
            "norm_eps": (1e-6,) if limited or design.norm == "rms" else tuple(PLAIN_BY_EPS),
            "attention_out_norm": (False,) if limited else (False, True),
            "mlp_out_norm": (False,) if limited else (False, True),
            "pool": ("cls", "mean") if gated else ("cls", "mean", "map"),
            "pool_heads": (config.heads,) if in_pool else (config.pool_heads,),
        }
    rotary = usual | {
        "block": ("serial",),
        "norm": ("layer",),
        "mlp": ("gelu", "swiglu"),
        "norm_eps": tuple(EVA_BY_EPS),
        "pool_prefix": (True,) if in_pool and config.num_prefix_tokens else (False, True),
    }
    if design.positions == "learned_rope_native":
        rotary |= {"pool": ("map",), "pre_norm": (True,), "mlp": ("gelu",)}
        rotary |= {"attention_out_norm": (False,), "mlp_out_norm": (False,)}
        rotary |= {"prefix_positions": ("all", "none")} if design.registers else {}
    if design.positions == "learned_rope":
        prefix_positions = ("all",) if design.registers else ("all", "class")
        rotary |= {"registers": (int(config.pool != "cls"),), "prefix_positions": prefix_positions, "qkv_bias": (True,)}
    return rotary


def _prefix_tokens(config: ViTConfig) -> tuple[bool, int]:
    """Return whether timm's model has a class token, and its number of registers."""
    by_class = config.pool == "cls"
    has_class = by_class or (config.design.registers > 0 and keeps_class_token(config))
    return has_class, config.design.registers - (has_class and not by_class)


def _plain(config: ViTConfig) -> tuple[str, dict[str, Any]]:
    design = config.design
    gated, (has_class, registers) = design.mlp == "swiglu", _prefix_tokens(config)
    arguments: dict[str, Any] = {
        "mlp_ratio": _ratio(config.mlp_dim * (2 if gated else 1), config.dim),
        "class_token": has_class,
        "no_embed_class": not (has_class and design.prefix_positions != "none"),
        "reg_tokens": registers,
        "pre_norm": design.pre_norm,
        "fc_norm": design.final_norm == "pooled",
    }
    if not gated:
        arguments["act_layer"] = design.mlp
    if design.norm == "rms":
        arguments["norm_layer"] = "rmsnorm"
    if config.pool == "map" and design.pool_prefix:
        arguments["pool_include_prefix"] = True
    for ours, theirs in (("attention_out_norm", "scale_attn_norm"), ("mlp_out_norm", "scale_mlp_norm")):
        if getattr(design, ours):
            arguments[theirs] = True
    if design.block == "parallel":
        return PARALLEL, arguments
    return SWIGLU if gated else PLAIN_BY_EPS[design.norm_eps], arguments


def _rotary(config: ViTConfig) -> tuple[str, dict[str, Any]]:
    design = config.design
    native, (has_class, registers) = design.positions == "learned_rope_native", _prefix_tokens(config)
    learned, _, form = POSITIONS[design.positions]
    eva = design.positions == "learned_rope"
    usual: dict[str, Any] = {
        "rope_temperature": 10_000.0,
        "rope_rotate_half": False,
        "rope_grid_offset": 0.0,
        "rope_grid_indexing": "ij",
        "ref_feat_shape": list(config.grid) if native else None,
    }
    return EVA_BY_EPS[design.norm_eps], usual | form | {
        "mlp_ratio": _ratio(config.mlp_dim, config.dim),
        "class_token": has_class,
        "num_reg_tokens": registers,
        "no_embed_class": native and design.prefix_positions == "none",
        "use_abs_pos_emb": learned,
        "use_rot_pos_emb": True,
        "use_pre_transformer_norm": design.pre_norm,
        "use_fc_norm": design.final_norm == "pooled",
        "attn_pool_num_heads": config.pool_heads,
        "attn_type": "eva" if eva else "rope",
        "qkv_fused": not (eva and design.mlp_out_norm),
        "swiglu_mlp": design.mlp == "swiglu",
        "swiglu_align_to": 0 if eva and not design.mlp_out_norm else 1,
        "scale_attn_inner": design.attention_out_norm,
        "scale_mlp": design.mlp_out_norm,
    }


def _ratio(hidden: int, dim: int) -> float:
    """Return timm's mlp_ratio, whose product with `dim` is truncated to `hidden`."""
    return (hidden + 0.5) / dim
