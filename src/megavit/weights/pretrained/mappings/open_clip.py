"""Key mapping for the visual tower of OpenCLIP and OpenAI's CLIP (arXiv 2103.00020), whose projection is our head."""

from typing import Any

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat, Settings
from megavit.weights.pretrained.mappings.config_from_shapes import (
    CheckpointFacts,
    Fields,
    Overrides,
    undetermined_fields,
)
from megavit.weights.pretrained.mappings.key_mapping import renames, rule

LAYER, OURS = "transformer.resblocks.{i}", "transformer.layers.{i}"
RULES = (
    rule("conv1.weight: D C P Q", "patch_embedding.projection.weight"),
    rule("0: D", "patch_embedding.projection.bias"),
    # A class token that is not used for pooling is our register.
    rule("class_embedding: D", ["prefix_tokens.class_token", "prefix_tokens.registers"]),
    rule(
        "positional_embedding: * D",
        ["prefix_tokens.class_position", "prefix_tokens.register_positions", "positions.table"],
    ),
    rule("proj: D L -> L D", "mlp_head.weight"),
    rule("0: L", "mlp_head.bias"),
    rule(f"{LAYER}.attn.in_proj_weight: 3D D", f"{OURS}.attention.to_qkv.weight"),
    rule(f"{LAYER}.attn.in_proj_bias: 3D", f"{OURS}.attention.to_qkv.bias"),
    rule(f"{LAYER}.ls_1.gamma: D", f"{OURS}.attention_scale.factor"),
    rule(f"{LAYER}.ls_2.gamma: D", f"{OURS}.mlp_scale.factor"),
    *renames({
        "ln_pre": "pre_norm",
        f"{LAYER}.ln_1": f"{OURS}.attention_norm",
        f"{LAYER}.attn.out_proj": f"{OURS}.attention.out",
        f"{LAYER}.ln_2": f"{OURS}.mlp_norm",
        f"{LAYER}.mlp.c_fc": f"{OURS}.mlp.into",
        f"{LAYER}.mlp.c_proj": f"{OURS}.mlp.out",
        "ln_post": "norm",
    }),
)  # fmt: skip


def fields_of(facts: CheckpointFacts) -> Fields:
    """Return the config fields of a checkpoint, with exact GELU; only settings or the user can specify `quick_gelu`."""
    if any(name.startswith("attn_pool.") for name in facts.shapes):
        raise BundleError("the checkpoint pools by OpenCLIP's attentional pooler, which megavit does not support")
    layer = LAYER.format(i=0)
    fields = facts.plain_fields(
        kernel="conv1.weight", layers="transformer.resblocks.", mlp_out=f"{layer}.mlp.c_proj.weight"
    )
    patches = facts.shape("positional_embedding", axes=2)[0] - 1
    fields |= {
        "image_size": facts.image_size(patches, fields["patch_size"]),
        "num_classes": facts.shape("proj", axes=2)[1] if "proj" in facts else 0,
        "norm_eps": 1e-5,
        "pre_norm": "ln_pre.weight" in facts,
        "registers": int(facts.overrides.get("pool", "cls") == "mean"),
        "prefix_positions": "all",
        "layer_scale": 1.0 if f"{layer}.ls_1.gamma" in facts else None,
    }
    return fields


def read_settings(settings: Settings) -> Overrides:
    """Return the facts in open_clip_config.json or OpenCLIP's `model_configs`; raise a BundleError if unsupported."""
    model = settings.get("model_cfg", settings)
    vision = model.get("vision_cfg", {})
    for name in ("timm_model_name", "attentional_pool", "block_type", "qk_norm", "scaled_cosine_attn", "scale_heads"):
        if vision.get(name) not in (None, False, "default"):
            raise BundleError(f"the model's vision_cfg has {name} {vision[name]!r}, which megavit does not support")
    activation = vision.get("act_kwargs") or {}
    tanh = activation.get("approximate") == "tanh"
    facts: dict[str, Any] = {
        "image_size": vision.get("image_size", 224),
        "heads": vision.get("width", 768) // vision.get("head_width", 64),
        "mlp": "quick_gelu" if model.get("quick_gelu") else "gelu_tanh" if tanh else "gelu",
        "norm_eps": (vision.get("norm_kwargs") or {}).get("eps", 1e-5),
        "final_norm": "pooled" if vision.get("final_ln_after_pool") else "tokens",
        "pool": {"tok": "cls", "avg": "mean"}.get(vision.get("pool_type", "tok")),
    }
    if facts["pool"] is None:
        raise BundleError(
            f"the model's vision_cfg has pool_type {vision['pool_type']!r}, which megavit does not support"
        )
    return facts


def undetermined(config: ViTConfig) -> dict[str, Any]:
    """Return the fields that no shape determines, including the pooling, and the final norm of mean pooling."""
    return undetermined_fields(config, "pool", *(("final_norm",) if config.pool == "mean" else ()))


OPEN_CLIP = CheckpointFormat(
    name="OpenCLIP",
    signature=("class_embedding", "positional_embedding", "conv1.weight", f"{LAYER.format(i=0)}.attn.in_proj_weight"),
    rules=RULES,
    fields=fields_of,
    towers=("module.visual.", "visual."),
    settings=read_settings,
    undetermined=undetermined,
)
