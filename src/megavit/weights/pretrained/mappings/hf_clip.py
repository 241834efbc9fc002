"""Key mapping for Hugging Face's CLIP (arXiv 2103.00020) and SigLIP (arXiv 2303.15343) image towers."""

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat, Settings
from megavit.weights.pretrained.mappings.config_from_shapes import CheckpointFacts, Fields, Overrides
from megavit.weights.pretrained.mappings.hf_vit import DEFAULTS
from megavit.weights.pretrained.mappings.hugging_face import get_defaults, qkv_rules, read_common
from megavit.weights.pretrained.mappings.key_mapping import renames, rule

KERNEL, POSITIONS = "embeddings.patch_embedding.weight", "embeddings.position_embedding.weight"
LAYER = "encoder.layers.{i}"
CLIP = DEFAULTS | {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
SIGLIP = DEFAULTS | {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
TYPES = dict.fromkeys(("siglip", "siglip_vision_model"), SIGLIP) | {
    name: CLIP
    for family in ("clip", "metaclip_2", "chinese_clip", "altclip")
    for name in (family, f"{family}_vision_model")
}


def is_clip(config: ViTConfig) -> bool:
    """Return whether a model is CLIP's; SigLIP does not pool by the class token."""
    return config.pool == "cls"


RULES = (
    rule(f"{KERNEL}: D C P Q", "patch_embedding.projection.weight"),
    rule("0: D", "patch_embedding.projection.bias", when=is_clip),
    rule("embeddings.class_embedding: D", "prefix_tokens.class_token"),
    rule(f"{POSITIONS}: * D", ["prefix_tokens.class_position", "positions.table"]),
    *qkv_rules(", ".join(f"{LAYER}.self_attn.{name}_proj" for name in "qkv")),
    rule("visual_projection.weight: L D", "mlp_head.weight", when=is_clip),
    rule("0: L", "mlp_head.bias", when=is_clip),
    rule("head.probe: 1 1 D", "pool.query"),
    rule("head.attention.in_proj_weight: 3D D", ["pool.to_query.weight", "pool.to_key_value.weight"]),
    rule("head.attention.in_proj_bias: 3D", ["pool.to_query.bias", "pool.to_key_value.bias"]),
    *renames({
        "embeddings.patch_embedding": "patch_embedding.projection",
        "pre_layrnorm": "pre_norm",
        f"{LAYER}.layer_norm1": "transformer.layers.{i}.attention_norm",
        f"{LAYER}.self_attn.out_proj": "transformer.layers.{i}.attention.out",
        f"{LAYER}.layer_norm2": "transformer.layers.{i}.mlp_norm",
        f"{LAYER}.mlp.fc1": "transformer.layers.{i}.mlp.into",
        f"{LAYER}.mlp.fc2": "transformer.layers.{i}.mlp.out",
        "post_layernorm": "norm",
        "head.attention.out_proj": "pool.out",
        "head.layernorm": "pool.norm",
        "head.mlp.fc1": "pool.mlp_into",
        "head.mlp.fc2": "pool.mlp_out",
        "classifier": "mlp_head",
    }),
)  # fmt: skip


def read_settings(settings: Settings) -> Overrides:
    """Return the facts in config.json of a tower or full model; raise a BundleError if it is unsupported."""
    return read_common(settings.get("vision_config") or settings, get_defaults(settings, TYPES))


def fields_of(facts: CheckpointFacts) -> Fields:
    """Return the config fields of a checkpoint; raise a BundleError for CLIP's classifier on unnormalized patches."""
    clip = "embeddings.class_embedding" in facts
    if clip and "classifier.weight" in facts:
        raise BundleError(
            "the checkpoint's classifier reads unnormalized patches, which megavit's never does: use the model "
            "without a classifier, and train a new one"
        )
    fields = facts.plain_fields(
        kernel=KERNEL,
        layers="encoder.layers.",
        mlp_out="encoder.layers.0.mlp.fc2.weight",
        head="visual_projection.weight" if clip else "classifier.weight",
    )
    patches = facts.shape(POSITIONS, axes=2)[0] - clip
    fields |= {
        "image_size": facts.image_size(patches, fields["patch_size"]),
        "pool": "cls" if clip else "map" if "head.probe" in facts else "mean",
        "norm_eps": 1e-5 if clip else 1e-6,
        "pre_norm": clip,
        "final_norm": "pooled" if clip else "tokens",
        "mlp": "quick_gelu" if clip else "gelu_tanh",
    }
    return fields


HF_CLIP = CheckpointFormat(
    name="Hugging Face's CLIP and SigLIP",
    signature=(KERNEL, "encoder.layers.0.self_attn.q_proj.weight"),
    rules=RULES,
    fields=fields_of,
    prefixes=("vision_model.",),
    renamed={r"^encoder\.layer\.": "encoder.layers."},  # in full AltCLIP models
    left_out=(r"text_model\.", r"text_projection\.", r"logit_(scale|bias)$", r"embeddings\.position_ids$"),
    # SigLIP's classifier reads the mean of the patches, without the pooling head.
    left_out_beside={"classifier.weight": r"head\."},
    settings=read_settings,
    model_types=TYPES,
)
