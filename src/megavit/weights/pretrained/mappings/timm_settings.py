"""Read timm's config.json: the architecture of a model and its arguments."""

import re
from collections.abc import Mapping
from typing import Any, get_args

from megavit.config.vit import Mlp, pair
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.config_from_shapes import Overrides
from megavit.weights.pretrained.mappings.timm_architectures import ARCHITECTURES

# Patterns of unsupported architecture names -> reason
UNSUPPORTED_NAMES = {
    r"distilled": "it has two classifiers, whose outputs are averaged",
    r"^beitv?2?_|relpos": "it adds relative positions to the attention",
    r"^samvit_": "its attention is within windows, with relative positions",
    r"^vit_\w+?_(r\d*_?s\d+|r\d+_|resnet\d+d|mci)": "it has convolutions before its patches",
    r"^naflexvit_": "its patches and positions are stored differently; use its vit_* weights, if they exist",
}
TRAINING_ONLY = {
    "attn_drop_rate", "drop_block_rate", "drop_path_rate", "drop_rate", "dynamic_img_size", "fix_init",
    "head_init_scale", "patch_drop_rate", "pos_drop_rate", "pretrained_strict", "proj_drop_rate", "rope_jitter_coords",
    "rope_rescale_coords", "rope_shift_coords", "strict_img_size", "weight_init",
}  # fmt: skip
# Arguments that are determined by the tensors instead.
IN_TENSORS = {
    "attn_pool_mlp_ratio", "attn_type", "class_token", "embed_dim", "fc_norm", "final_norm", "in_chans", "init_values",
    "mlp_ratio", "no_embed_class", "num_classes", "num_reg_tokens", "patch_size", "pre_norm", "proj_bias", "qk_norm",
    "qkv_bias", "qkv_fused", "reg_tokens", "scale_attn_inner", "scale_attn_norm", "scale_mlp", "scale_mlp_norm",
    "swiglu_align_to", "swiglu_mlp", "use_fc_norm", "use_post_transformer_norm", "use_pre_transformer_norm",
}  # fmt: skip
# Arguments with a single supported value, and what another would mean.
SUPPORTED_VALUE: dict[str, tuple[Any, str]] = {
    "attn_layer": ("attn", "another attention"),
    "attn_only_layer_scale": (False, "a scale of only the attention"),
    "dynamic_img_pad": (False, "images padded to whole patches"),
    "embed_norm_layer": (None, "a norm of the patches"),
    "features_only": (False, "features of several layers"),
    "final_norm": (True, "no norm after the layers"),
    "num_kv_heads": (None, "fewer heads of keys than of queries"),
    "pos_embed": ("learn", "other positions"),
    "proj_bias": (True, "projections without bias"),
    "rope_mrope_section": (None, "rotary positions of three axes"),
    "use_post_transformer_norm": (None, "no norm after the layers"),
    "use_naflex": (False, "patches and positions stored differently"),
    "use_post_norm": (False, "norms after the branches"),
}
# Arguments for which null differs from the architecture's default.
NULLABLE = {"act_layer", "norm_layer", "ref_feat_shape", "use_abs_pos_emb", "use_rot_pos_emb", "final_norm"}
BLOCKS = {"Block": "serial", "ParallelScalingBlock": "parallel"}
OTHER_BLOCKS = {
    "ResPostBlock": "norms after the branches",
    "ParallelThingsBlock": "several parallel attentions and MLPs",
    "DiffParallelScalingBlock": "attention as the difference of two",
}
NORMS = {"layernorm": "layer", "rmsnorm": "rms"}
POOLS = {"token": "cls", "avg": "mean", "map": "map"}
DEFAULTS: dict[str, dict[str, Any]] = {
    "VisionTransformer": {
        "global_pool": "token", "act_layer": "gelu", "norm": "layer", "norm_eps": 1e-6, "block_fn": "Block",
        "mlp_layer": "Mlp", "pool_include_prefix": False,
    },
    "Eva": {
        "global_pool": "avg", "norm": "layer", "norm_eps": 1e-6, "swiglu_mlp": False, "use_abs_pos_emb": True,
        "use_rot_pos_emb": False, "rope_type": "cat", "rope_temperature": 10_000.0, "rope_grid_offset": 0.0,
        "rope_grid_indexing": "ij", "rope_rotate_half": False, "ref_feat_shape": None, "attn_pool_num_heads": None,
    },
}  # fmt: skip
ROTARY = ("rope_type", "rope_temperature", "rope_grid_offset", "rope_grid_indexing", "rope_rotate_half")
# Our positions -> whether timm's are learned, whether they are rotary, and their rotary arguments.
POSITIONS: dict[str, tuple[bool, bool, dict[str, Any]]] = {
    "learned": (True, False, {}),
    "learned_rope": (True, True, {"rope_type": "cat", "ref_feat_shape": (16, 16)}),
    "learned_rope_native": (
        True,
        True,
        {"rope_type": "cat", "rope_grid_offset": 1.0, "rope_grid_indexing": "xy"},
    ),
    "rope_grid": (False, True, {"rope_type": "cat", "ref_feat_shape": (16, 16)}),
    "rope": (False, True, {"rope_type": "dinov3", "rope_temperature": 100, "rope_rotate_half": True}),
}


def read_timm_settings(settings: Mapping[str, Any]) -> Overrides:
    """Return the facts in timm's config.json; raise a BundleError that lists all unsupported arguments."""
    nested = settings.get("pretrained_cfg") or settings  # older files are flat
    name = str(settings.get("architecture") or nested.get("architecture") or "").partition(".")[0]
    for pattern, reason in UNSUPPORTED_NAMES.items():
        if re.search(pattern, name):
            raise BundleError(f"megavit does not support timm's {name}: {reason}")
    model_args = (settings.get("model_args") or {}).items()
    given = {name: value for name, value in model_args if value is not None or name in NULLABLE}
    if given.get("global_pool") is None and settings.get("global_pool"):
        given["global_pool"] = settings["global_pool"]
    if "norm_layer" in given:  # timm's default epsilon is 1e-6
        layer = given.pop("norm_layer") or "layernorm"
        given |= {"norm": NORMS.get(str(layer).lower(), layer), "norm_eps": 1e-6}
    if "act_layer" in given:
        given["act_layer"] = given["act_layer"] or "gelu"
    architecture = ARCHITECTURES.get(name)
    arguments = {**DEFAULTS[architecture.model], **architecture.arguments, **given} if architecture else given
    faults = _faults(arguments, set(given), architecture.model if architecture else None)
    if faults:
        which = f"timm's {name}" if name else "the timm model in config.json"
        raise BundleError("\n".join([f"megavit does not support {which}:", *faults]))
    facts = _facts(arguments)
    size = given.get("img_size") or (nested.get("input_size") or ())[1:]
    return facts | ({"image_size": pair("image_size", size)} if size else {})


def _faults(arguments: Mapping[str, Any], given: set[str], model: str | None) -> list[str]:
    """Return a line for each argument that megavit does not support; `given` are those not from the architecture."""
    understood = TRAINING_ONLY | IN_TENSORS | SUPPORTED_VALUE.keys() | {"depth", "num_heads", "img_size", "global_pool"}
    understood |= DEFAULTS[model].keys() if model else {"act_layer", "norm", "norm_eps"}
    faults = [
        f"  {name}: {arguments[name]!r}, which is unknown{'' if model else ' for an architecture of that name'}"
        for name in sorted(given - understood)
    ]
    for name, (value, other) in SUPPORTED_VALUE.items():
        if name in arguments and arguments[name] != value and not _is_redundant(name, arguments):
            faults.append(f"  {name}: {arguments[name]!r}, {other}")
    for name, values in (("global_pool", POOLS), ("norm", NORMS.values()), ("block_fn", BLOCKS)):
        if name in arguments and arguments[name] not in values:
            reason = OTHER_BLOCKS.get(arguments[name], f"expected one of {', '.join(values)}")
            faults.append(f"  {'norm_layer' if name == 'norm' else name}: {arguments[name]!r}, {reason}")
    if "act_layer" in arguments:
        faults += _faults_of_mlp(arguments)
    if arguments.get("pool_include_prefix") and arguments.get("global_pool") == "avg":
        faults.append("  pool_include_prefix: True, but megavit's mean is over the patches only")
    if model == "Eva":
        faults += _faults_of_eva(arguments)
    return faults


def _is_redundant(name: str, arguments: Mapping[str, Any]) -> bool:
    if name == "use_post_transformer_norm":
        return arguments[name] or bool(arguments.get("use_fc_norm"))
    return name == "num_kv_heads" and arguments[name] == arguments.get("num_heads")


def _faults_of_mlp(arguments: Mapping[str, Any]) -> list[str]:
    layer, activation = arguments.get("mlp_layer", "Mlp"), arguments["act_layer"]
    if layer == "SwiGLUPacked":
        faults = [] if activation == "silu" else [f"  act_layer: {activation!r}, expected 'silu' for a gated MLP"]
        if arguments.get("global_pool") == "map":
            faults.append("  global_pool: 'map' with a gated MLP, whose activation and width its pooling shares")
        return faults
    if layer != "Mlp":
        return [f"  mlp_layer: {layer!r}, expected Mlp or SwiGLUPacked"]
    usual = [name for name in get_args(Mlp) if name != "swiglu"]
    return [] if activation in usual else [f"  act_layer: {activation!r}, expected one of {', '.join(usual)}"]


def _faults_of_eva(arguments: Mapping[str, Any]) -> list[str]:
    learned, rotary = arguments["use_abs_pos_emb"], arguments["use_rot_pos_emb"]
    closest = min(
        (form for form in POSITIONS.values() if form[:2] == (learned, rotary)),
        key=lambda form: len(_differences(form[2], arguments)),
        default=None,
    )
    if closest is None:
        return ["  use_abs_pos_emb and use_rot_pos_emb: False, no positions at all"]
    differences = _differences(closest[2], arguments)
    return [f"  {name}: {arguments[name]!r}, expected {value!r}" for name, value in differences.items()]


def _differences(expected: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return our values of the rotary arguments that differ, by name."""
    usual = {name: DEFAULTS["Eva"][name] for name in ROTARY}
    both = {**usual, **expected} if expected else {}
    found = {name: _as_pair(arguments[name]) if name == "ref_feat_shape" else arguments[name] for name in both}
    return {name: value for name, value in both.items() if found[name] != value}


def _as_pair(shape: Any) -> Any:
    return (shape, shape) if isinstance(shape, int) else tuple(shape or ())


def _facts(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments as fields of `ViTConfig` and `Design`, without those that tensors determine."""
    facts = {
        ours: arguments[theirs]
        for theirs, ours in (("depth", "depth"), ("num_heads", "heads"), ("norm", "norm"), ("norm_eps", "norm_eps"))
        if theirs in arguments
    }
    if "global_pool" in arguments:
        facts["pool"] = POOLS[arguments["global_pool"]]
    if arguments.get("global_pool") == "map":
        facts["pool_heads"] = arguments.get("attn_pool_num_heads")
        facts["pool_prefix"] = arguments.get("pool_include_prefix", "use_rot_pos_emb" in arguments)
    if "act_layer" in arguments:
        facts["mlp"] = "swiglu" if arguments.get("mlp_layer") == "SwiGLUPacked" else arguments["act_layer"]
    if "swiglu_mlp" in arguments and "use_rot_pos_emb" in arguments:
        facts["mlp"] = "swiglu" if arguments["swiglu_mlp"] else "gelu"
    if "block_fn" in arguments:
        facts |= {"block": BLOCKS[arguments["block_fn"]], "positions": "learned"}
    if "use_rot_pos_emb" in arguments:
        kinds = (arguments["use_abs_pos_emb"], arguments["use_rot_pos_emb"])
        fitting = (ours for ours, form in POSITIONS.items() if form[:2] == kinds)
        facts["block"] = "serial"
        facts["positions"] = next(ours for ours in fitting if not _differences(POSITIONS[ours][2], arguments))
        if facts["positions"] == "learned_rope_native":
            facts["reference"] = _as_pair(arguments["ref_feat_shape"])
    return facts
