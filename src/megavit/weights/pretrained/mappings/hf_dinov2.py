"""Key mapping for Hugging Face's DINOv2, with and without registers (arXiv 2304.07193, 2309.16588)."""

from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat, Settings
from megavit.weights.pretrained.mappings.config_from_shapes import CheckpointFacts, Fields, Overrides
from megavit.weights.pretrained.mappings.hf_vit import DEFAULTS, KERNEL, LAYER, POSITIONS
from megavit.weights.pretrained.mappings.hugging_face import get_defaults, qkv_rules, read_common
from megavit.weights.pretrained.mappings.key_mapping import renames, rule

SWIGLU_OUT = "encoder.layer.0.mlp.weights_out.weight"
TYPES = dict.fromkeys(("dinov2", "dinov2_with_registers"), DEFAULTS | {"layer_norm_eps": 1e-6})
RULES = (
    rule(f"{KERNEL}: D C P Q", "patch_embedding.projection.weight"),
    rule("embeddings.cls_token: 1 1 D", "prefix_tokens.class_token"),
    rule("embeddings.register_tokens: 1 R D", "prefix_tokens.registers"),
    rule(f"{POSITIONS}: 1 * D", ["prefix_tokens.class_position", "positions.table"]),
    rule(f"{LAYER}.layer_scale1.lambda1: D", "transformer.layers.{i}.attention_scale.factor"),
    rule(f"{LAYER}.layer_scale2.lambda1: D", "transformer.layers.{i}.mlp_scale.factor"),
    *qkv_rules(", ".join(f"{LAYER}.attention.attention.{name}" for name in ("query", "key", "value"))),
    *renames(
        {
            f"{LAYER}.mlp.weights_in": "transformer.layers.{i}.mlp.into",
            f"{LAYER}.mlp.weights_out": "transformer.layers.{i}.mlp.out",
        },
        when=lambda config: config.design.mlp == "swiglu",
    ),
    *renames({
        "embeddings.patch_embeddings.projection": "patch_embedding.projection",
        f"{LAYER}.norm1": "transformer.layers.{i}.attention_norm",
        f"{LAYER}.attention.output.dense": "transformer.layers.{i}.attention.out",
        f"{LAYER}.norm2": "transformer.layers.{i}.mlp_norm",
        f"{LAYER}.mlp.fc1": "transformer.layers.{i}.mlp.into",
        f"{LAYER}.mlp.fc2": "transformer.layers.{i}.mlp.out",
        "layernorm": "norm",
        "classifier": "mlp_head",
    }),
)  # fmt: skip


def read_settings(settings: Settings) -> Overrides:
    """Return the facts in config.json; raise a BundleError if the model is unsupported."""
    facts = read_common(settings, get_defaults(settings, TYPES))
    return facts | {"mlp": "swiglu"} if settings.get("use_swiglu_ffn") else facts


def fields_of(facts: CheckpointFacts) -> Fields:
    """Return the config fields of a checkpoint; a classifier reads the class token and the mean of the patches."""
    gated = SWIGLU_OUT in facts
    mlp_out = SWIGLU_OUT if gated else "encoder.layer.0.mlp.fc2.weight"
    fields = facts.plain_fields(kernel=KERNEL, layers="encoder.layer.", mlp_out=mlp_out, head="classifier.weight")
    fields |= {
        "image_size": facts.image_size(facts.shape(POSITIONS, axes=3)[1] - 1, fields["patch_size"]),
        "pool": "cls_mean" if fields["num_classes"] else "cls",
        "qkv_bias": "encoder.layer.0.attention.attention.query.bias" in facts,
        "mlp": "swiglu" if gated else "gelu",
        "registers": facts.tokens("embeddings.register_tokens"),
        "layer_scale": 1.0,
    }
    return fields


HF_DINOV2 = CheckpointFormat(
    name="Hugging Face's DINOv2",
    signature=(KERNEL, "encoder.layer.0.layer_scale1.lambda1"),
    rules=RULES,
    fields=fields_of,
    unsupported={
        "encoder.layer.0.mlp.gate_proj.weight": "has the tensor names of the model in memory, with separate gate "
        "and value: save it with save_pretrained of transformers, which joins them",
    },
    prefixes=("dinov2_with_registers.", "dinov2."),
    renamed={
        r"^(encoder\.layer\.\d+\.attention)\.o_proj\.": r"\1.output.dense.",
        r"^(encoder\.layer\.\d+\.attention)\.q_proj\.": r"\1.attention.query.",
        r"^(encoder\.layer\.\d+\.attention)\.k_proj\.": r"\1.attention.key.",
        r"^(encoder\.layer\.\d+\.attention)\.v_proj\.": r"\1.attention.value.",
    },
    left_out=(r"embeddings\.mask_token$",),  # for pre-training
    settings=read_settings,
    model_types=TYPES,
    head="classifier",
    head_inputs=2,
)
