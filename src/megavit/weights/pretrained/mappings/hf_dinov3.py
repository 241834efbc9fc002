"""Key mapping for Hugging Face's DINOv3 (arXiv 2508.10104)."""

from typing import Any

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.model.pos_embed import RotaryPositions
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat, Settings
from megavit.weights.pretrained.mappings.config_from_shapes import (
    CheckpointFacts,
    Fields,
    Overrides,
    dinov3_heads,
    undetermined_fields,
)
from megavit.weights.pretrained.mappings.hugging_face import get_defaults, qkv_rules, read_common, require
from megavit.weights.pretrained.mappings.key_mapping import renames, rule

KERNEL, REGISTERS = "embeddings.patch_embeddings.weight", "embeddings.register_tokens"
TYPES = {
    "dinov3_vit": {
        "num_attention_heads": 6,
        "num_hidden_layers": 12,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "image_size": 224,
    }
}
REQUIRED = {"rope_theta": RotaryPositions.base, "key_bias": False, "proj_bias": True, "mlp_bias": True}


def is_gated(config: ViTConfig) -> bool:
    return config.design.mlp == "swiglu"


RULES = (
    rule(f"{KERNEL}: D C P Q", "patch_embedding.projection.weight"),
    rule("embeddings.cls_token: 1 1 D", "prefix_tokens.class_token"),
    rule(f"{REGISTERS}: 1 R D", "prefix_tokens.registers"),
    rule(f"{REGISTERS}: 1 R D", when=lambda config: not config.design.registers),
    rule("layer.{i}.layer_scale1.lambda1: D", "transformer.layers.{i}.attention_scale.factor"),
    rule("layer.{i}.layer_scale2.lambda1: D", "transformer.layers.{i}.mlp_scale.factor"),
    *qkv_rules(", ".join(f"layer.{{i}}.attention.{name}_proj" for name in "qkv"), key_bias=False),
    *(
        rule(
            [f"layer.{{i}}.mlp.{name}.{last}: {axes}" for name in ("gate_proj", "up_proj")],
            f"transformer.layers.{{i}}.mlp.into.{last}",
            when=is_gated,
        )
        for last, axes in (("weight", "M D"), ("bias", "M"))
    ),
    *renames({
        "embeddings.patch_embeddings": "patch_embedding.projection",
        "layer.{i}.norm1": "transformer.layers.{i}.attention_norm",
        "layer.{i}.attention.o_proj": "transformer.layers.{i}.attention.out",
        "layer.{i}.norm2": "transformer.layers.{i}.mlp_norm",
        "layer.{i}.mlp.up_proj": "transformer.layers.{i}.mlp.into",
        "layer.{i}.mlp.down_proj": "transformer.layers.{i}.mlp.out",
        "norm": "norm",
    }),
)  # fmt: skip


def read_settings(settings: Settings) -> Overrides:
    """Return the facts in config.json; raise a BundleError if the model is unsupported."""
    defaults = get_defaults(settings, TYPES)
    require(settings, REQUIRED)
    if settings.get("query_bias", True) != settings.get("value_bias", True):
        raise BundleError(
            "config.json has a bias only for queries or only for values; megavit supports both or neither"
        )
    rotary = {"rotary base": REQUIRED["rope_theta"]}
    if not settings.get("use_gated_mlp"):
        return rotary | read_common(settings, defaults)
    if settings.get("hidden_act") != "silu":
        raise BundleError(
            f"config.json has a gated MLP with {settings.get('hidden_act', 'gelu')!r}; megavit supports only 'silu'"
        )
    return rotary | read_common({**settings, "hidden_act": "gelu"}, defaults) | {"mlp": "swiglu"}


def fields_of(facts: CheckpointFacts) -> Fields:
    """Return the config fields of a checkpoint."""
    fields = facts.plain_fields(kernel=KERNEL, layers="layer.", mlp_out="layer.0.mlp.down_proj.weight")
    fields |= {
        "image_size": TYPES["dinov3_vit"]["image_size"],
        "qkv_bias": "layer.0.attention.q_proj.bias" in facts,
        "norm_eps": 1e-5,
        "mlp": "swiglu" if "layer.0.mlp.gate_proj.weight" in facts else "gelu",
        "positions": "rope",
        "registers": facts.shape(REGISTERS, axes=3)[1],
        "layer_scale": 1.0,
    }
    return fields | {"heads": dinov3_heads(fields["dim"])}


def undetermined(config: ViTConfig) -> dict[str, Any]:
    """Return the fields that no shape determines, including the image size and rotary base."""
    return undetermined_fields(config, "image_size") | {"rotary base": RotaryPositions.base}


HF_DINOV3 = CheckpointFormat(
    name="Hugging Face's DINOv3",
    signature=(KERNEL, "layer.0.layer_scale1.lambda1"),
    rules=RULES,
    fields=fields_of,
    renamed={r"^model\.layer\.": "layer."},
    left_out=(r"embeddings\.mask_token$", r"rope_embeddings\."),
    settings=read_settings,
    model_types=TYPES,
    undetermined=undetermined,
)
