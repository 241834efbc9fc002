"""Key mapping for Hugging Face's ViT, DeiT, ViT-MAE (encoder), ViT-MSN and I-JEPA."""

from megavit.config.vit import ViTConfig
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat, Settings
from megavit.weights.pretrained.mappings.config_from_shapes import CheckpointFacts, Fields, Overrides
from megavit.weights.pretrained.mappings.hugging_face import get_defaults, qkv_rules, read_common
from megavit.weights.pretrained.mappings.key_mapping import renames, rule

KERNEL, POSITIONS = "embeddings.patch_embeddings.projection.weight", "embeddings.position_embeddings"
LAYER = "encoder.layer.{i}"
DEFAULTS = {
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "image_size": 224,
}
TYPES = dict.fromkeys(("vit", "deit", "vit_mae", "ijepa"), DEFAULTS) | {"vit_msn": DEFAULTS | {"layer_norm_eps": 1e-6}}
# A distillation token is a register with a position.
RULES = (
    rule(f"{KERNEL}: D C P Q", "patch_embedding.projection.weight"),
    rule("embeddings.cls_token: 1 1 D", "prefix_tokens.class_token"),
    rule("embeddings.distillation_token: 1 1 D", "prefix_tokens.registers"),
    rule(
        f"{POSITIONS}: 1 * D",
        ["prefix_tokens.class_position", "prefix_tokens.register_positions", "positions.table"],
    ),
    *qkv_rules(", ".join(f"{LAYER}.attention.attention.{name}" for name in ("query", "key", "value"))),
    *renames({
        "embeddings.patch_embeddings.projection": "patch_embedding.projection",
        f"{LAYER}.layernorm_before": "transformer.layers.{i}.attention_norm",
        f"{LAYER}.attention.output.dense": "transformer.layers.{i}.attention.out",
        f"{LAYER}.layernorm_after": "transformer.layers.{i}.mlp_norm",
        f"{LAYER}.intermediate.dense": "transformer.layers.{i}.mlp.into",
        f"{LAYER}.output.dense": "transformer.layers.{i}.mlp.out",
        "layernorm": "norm",
        "classifier": "mlp_head",
    }),
)  # fmt: skip


def file_name(name: str, config: ViTConfig) -> str:
    """Return a name of the table as in a file, where the backbone has a prefix if there is a classifier."""
    if name.startswith("classifier.") or not config.num_classes:
        return name
    return ("ijepa." if config.pool == "mean" else "deit." if config.design.registers else "vit.") + name


def read_settings(settings: Settings) -> Overrides:
    """Return the facts in config.json; raise a BundleError if the model is unsupported."""
    return read_common(settings, get_defaults(settings, TYPES))


def fields_of(facts: CheckpointFacts) -> Fields:
    """Return the config fields of a checkpoint, with mean pooling if there is no class token (I-JEPA)."""
    layer = LAYER.format(i=0)
    fields = facts.plain_fields(
        kernel=KERNEL, layers="encoder.layer.", mlp_out=f"{layer}.output.dense.weight", head="classifier.weight"
    )
    has_class, registers = "embeddings.cls_token" in facts, int("embeddings.distillation_token" in facts)
    patches = facts.shape(POSITIONS, axes=3)[1] - has_class - registers
    fields |= {
        "image_size": facts.image_size(patches, fields["patch_size"]),
        "pool": "cls" if has_class else "mean",
        "qkv_bias": f"{layer}.attention.attention.query.bias" in facts,
        "norm_eps": 1e-12,
        "prefix_positions": "all",
        "registers": registers,
    }
    return fields


HF_VIT = CheckpointFormat(
    name="Hugging Face's ViT",
    signature=(KERNEL, "encoder.layer.0.layernorm_before.weight"),
    rules=RULES,
    fields=fields_of,
    unsupported={
        "distillation_classifier.weight": "is DeiT with two classifiers, whose outputs are averaged, but megavit's "
        "model has one: use a DeiTForImageClassification, which also has one"
    },
    prefixes=("vit.", "deit.", "ijepa."),
    renamed={
        r"^layers\.(\d+)\.attention\.o_proj\.": r"encoder.layer.\1.attention.output.dense.",
        r"^layers\.(\d+)\.attention\.q_proj\.": r"encoder.layer.\1.attention.attention.query.",
        r"^layers\.(\d+)\.attention\.k_proj\.": r"encoder.layer.\1.attention.attention.key.",
        r"^layers\.(\d+)\.attention\.v_proj\.": r"encoder.layer.\1.attention.attention.value.",
        r"^layers\.(\d+)\.mlp\.fc1\.": r"encoder.layer.\1.intermediate.dense.",
        r"^layers\.(\d+)\.mlp\.fc2\.": r"encoder.layer.\1.output.dense.",
        r"^layers\.": "encoder.layer.",
    },
    # No classifier reads the pooler; the rest is for pre-training.
    left_out=(r"pooler\.", r"decoder\.", r"embeddings\.mask_token$"),
    settings=read_settings,
    model_types=TYPES,
    head="classifier",
)
