"""A model of ours in timm: the architecture and `model_args` with which timm builds it, and its tensors."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.model.statistics import parameter_shapes
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat
from megavit.weights.pretrained.mappings.key_mapping import ResolvedRule, to_theirs
from megavit.weights.pretrained.mappings.timm_eva import EVA, EVA02, PERCEPTION
from megavit.weights.pretrained.mappings.timm_settings import POOLS, POSITIONS
from megavit.weights.pretrained.mappings.timm_vit import TIMM_PARALLEL, TIMM_VIT

# timm's settings are functions where JSON has no word: an architecture that has the right ones stands for them.
PLAIN_BY_EPS = {1e-6: "vit_base_patch16_224", 1e-5: "vit_base_patch16_clip_224"}
EVA_BY_EPS = {1e-6: "vit_base_patch16_rope_reg1_gap_256", 1e-5: "vit_base_patch16_dinov3"}
SWIGLU = "vit_giant_patch14_dinov2"
PARALLEL = "vit_pwee_patch16_reg1_gap_256"
ACTIVATIONS = ("gelu", "gelu_tanh", "quick_gelu")
PARTS: dict[str, Any] = {"patch_norm": False, "patch_overlap": 0}


def fit_to_timm(config: ViTConfig, tensors: Mapping[str, Tensor]) -> tuple[ViTConfig, dict[str, Tensor]]:
    """Return a model that answers to the bit as the one given, of the parts that timm has.

    Its LayerNorms have biases, of zeros where ours have none, and beside registers its class token has no position,
    which is added to it.
    """
    state, design = dict(tensors), config.design
    if (
        config.pool == "cls"
        and design.registers
        and (design.positions, design.prefix_positions) == ("learned", "class")
    ):
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
    """Return the architecture and the arguments that make timm's model of a config from `fit_to_timm`.

    Raises:
        BundleError: one that names every part of the model that timm has not.
    """
    rotary = config.design.rotary
    faults = _faults(config) + (_faults_of_rotary(config) if rotary else _faults_of_plain(config))
    if faults:
        raise BundleError("\n".join(["timm's Vision Transformers cannot be this model:", *faults]))
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
    architecture, more = _rotary(config) if rotary else _plain(config)
    return architecture, arguments | more


def timm_tensors(config: ViTConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of timm's model of a config from `fit_to_timm`.

    Raises:
        BundleError: for numbers that it cannot hold.
    """
    rules = format_of(config).key_rules(config)
    if config.design.positions in ("rope", "rope_grid", "learned_rope_native") and config.design.qkv_bias:
        rules = [_with_key_bias(rule) for rule in rules]
    return to_theirs(rules, state)


def format_of(config: ViTConfig) -> CheckpointFormat:
    """Return which of timm's formats has a model."""
    by_positions = {"learned_rope_native": PERCEPTION, "learned_rope": EVA02}
    if config.design.rotary:
        return by_positions.get(config.design.positions, EVA)
    return TIMM_PARALLEL if config.design.block == "parallel" else TIMM_VIT


def _with_key_bias(rule: ResolvedRule) -> ResolvedRule:
    """Return the rule with one bias of queries, keys and values, where theirs usually have none of keys."""
    whole = [part for part in rule.instead if part.name and part.name.endswith("attn.qkv.bias")]
    return ResolvedRule(whole, rule.ours) if whole else rule


def _faults(config: ViTConfig) -> list[str]:
    """Return a line for each part that no Vision Transformer of timm's has."""
    design = config.design
    faults = [
        f"  {name}: {getattr(design, name)!r}, where theirs have {value!r}"
        for name, value in PARTS.items()
        if getattr(design, name) != value
    ]
    if design.mlp not in (*ACTIVATIONS, "swiglu"):
        faults.append(f"  mlp: {design.mlp!r}, where theirs have {', '.join(ACTIVATIONS)} or swiglu")
    if config.heads * config.dim_head != config.dim:
        faults.append(f"  heads × dim_head: {config.heads} × {config.dim_head}, where theirs have dim, {config.dim}")
    return faults


def _faults_of_plain(config: ViTConfig) -> list[str]:
    """Return a line for each part that models with learned positions have not."""
    design, faults = config.design, []
    parallel, gated = design.block == "parallel", design.mlp == "swiglu"
    if design.block not in ("parallel", "serial"):
        faults.append(f"  block: {design.block!r}, where theirs are 'serial' or 'parallel'")
    if design.positions != "learned":
        faults.append(f"  positions: {design.positions!r}, where theirs are 'learned' or rotary")
    if gated and parallel:
        faults.append("  mlp: 'swiglu' in parallel blocks")
    if gated and config.pool == "map":
        faults.append("  pool: 'map' of a model with gated MLPs, where theirs has their width and activation as well")
    for name in ("attention_out_norm", "mlp_out_norm") if parallel or gated else ():
        if getattr(design, name):
            faults.append(f"  {name}: True in {'parallel blocks' if parallel else 'a model with gated MLPs'}")
    if config.pool == "map" and config.pool_heads != config.heads:
        faults.append(f"  pool_heads: {config.pool_heads}, where theirs are the {config.heads} of the layers")
    only = parallel or gated or design.norm == "rms"
    return faults + _faults_of_eps(design.norm_eps, (1e-6,) if only else tuple(PLAIN_BY_EPS))


def _faults_of_rotary(config: ViTConfig) -> list[str]:
    """Return a line for each part that models with rotary positions have not."""
    design, faults = config.design, []
    if design.block != "serial":
        faults.append(f"  block: {design.block!r} with rotary positions, where theirs are 'serial' then")
    if design.norm != "layer":
        faults.append(f"  norm: {design.norm!r} with rotary positions, where theirs are 'layer' then")
    if config.pool == "map" and config.num_prefix_tokens and not design.pool_prefix:
        faults.append(
            "  pool_prefix: False with rotary positions, where theirs sees the tokens before the patches, too"
        )
    if design.mlp not in ("gelu", "swiglu"):
        faults.append(f"  mlp: {design.mlp!r} with rotary positions, where theirs have 'gelu' or 'swiglu' then")
    if design.positions == "learned_rope_native":
        parts = {"pool": (config.pool, "map"), "pre_norm": (design.pre_norm, True), "mlp": (design.mlp, "gelu")}
        parts |= {name: (getattr(design, name), False) for name in ("attention_out_norm", "mlp_out_norm")}
        if design.registers and design.prefix_positions == "class":
            parts["prefix_positions"] = (design.prefix_positions, "all")
        for name, (given, value) in parts.items():
            if given != value:
                faults.append(f"  {name}: {given!r} with such positions, where theirs have {value!r} then")
    if design.positions == "learned_rope":
        tokens = design.registers + (config.pool == "cls")
        placed = design.prefix_positions if design.registers else design.prefix_positions.replace("class", "all")
        if (tokens, placed) != (1, "all"):
            faults.append("  positions: 'learned_rope' with other tokens than one before the patches, with a position")
        if not design.qkv_bias:
            faults.append("  qkv_bias: False with 'learned_rope' positions")
    return faults + _faults_of_eps(design.norm_eps, tuple(EVA_BY_EPS))


def _faults_of_eps(eps: float, theirs: tuple[float, ...]) -> list[str]:
    if eps in theirs:
        return []
    return [f"  norm_eps: {eps:g}, where theirs have {' or '.join(f'{one:g}' for one in theirs)} with such parts"]


def _plain(config: ViTConfig) -> tuple[str, dict[str, Any]]:
    """Return the architecture and the rest of the arguments of a model with learned positions."""
    design = config.design
    gated, by_class = design.mlp == "swiglu", config.pool == "cls"
    has_class = by_class or (design.registers > 0 and design.prefix_positions == "all")
    arguments: dict[str, Any] = {
        "mlp_ratio": _ratio(config.mlp_dim * (2 if gated else 1), config.dim),
        "class_token": has_class,
        "no_embed_class": not (has_class and design.prefix_positions != "none"),
        "reg_tokens": design.registers - (has_class and not by_class),
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
    """Return the architecture and the rest of the arguments of a model with rotary positions."""
    design = config.design
    by_class, native = config.pool == "cls", design.positions == "learned_rope_native"
    placed = design.positions != "rope_grid" and (not native or design.prefix_positions == "all")
    has_class = by_class or (design.registers > 0 and placed)
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
        "num_reg_tokens": design.registers - (has_class and not by_class),
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
    """Return what timm multiplies `dim` with, cutting off what is no whole number."""
    return (hidden + 0.5) / dim
