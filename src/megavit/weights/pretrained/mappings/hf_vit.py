"""Hugging Face's ViT, and those of its layout: DeiT, ViT-MAE's encoder, ViT-MSN, I-JEPA."""

from collections.abc import Iterable
from typing import Any

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.hugging_face import (
    Settings,
    bare_names,
    defaults_of,
    known_from,
    query_key_value,
)
from megavit.weights.pretrained.mappings.key_mapping import Piece, Rule, Shapes, complete
from megavit.weights.pretrained.mappings.shapes import Known, config_from, depth_of, heads_known, image_of, shape_of

TOLD_BY = ("embeddings.patch_embeddings.projection.weight", "encoder.layer.0.layernorm_before.weight")
PREFIXES = ("vit.", "deit.", "ijepa.")
RENAMED = {
    r"^layers\.(\d+)\.attention\.o_proj\.": r"encoder.layer.\1.attention.output.dense.",
    r"^layers\.(\d+)\.attention\.q_proj\.": r"encoder.layer.\1.attention.attention.query.",
    r"^layers\.(\d+)\.attention\.k_proj\.": r"encoder.layer.\1.attention.attention.key.",
    r"^layers\.(\d+)\.attention\.v_proj\.": r"encoder.layer.\1.attention.attention.value.",
    r"^layers\.(\d+)\.mlp\.fc1\.": r"encoder.layer.\1.intermediate.dense.",
    r"^layers\.(\d+)\.mlp\.fc2\.": r"encoder.layer.\1.output.dense.",
    r"^layers\.": "encoder.layer.",
}
# The pooler is trained for other heads than a classifier; the rest is for pre-training.
LEFT_OUT = (r"pooler\.", r"decoder\.", r"embeddings\.mask_token$")
MODULES = {
    "embeddings.patch_embeddings.projection": "patch_embedding.projection",
    "encoder.layer.{i}.layernorm_before": "transformer.layers.{i}.attention_norm",
    "encoder.layer.{i}.attention.output.dense": "transformer.layers.{i}.attention.out",
    "encoder.layer.{i}.layernorm_after": "transformer.layers.{i}.mlp_norm",
    "encoder.layer.{i}.intermediate.dense": "transformer.layers.{i}.mlp.into",
    "encoder.layer.{i}.output.dense": "transformer.layers.{i}.mlp.out",
    "layernorm": "norm",
    "classifier": "mlp_head",
}
DEFAULTS = {
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "image_size": 224,
}
TYPES = dict.fromkeys(("vit", "deit", "vit_mae", "ijepa"), DEFAULTS) | {"vit_msn": DEFAULTS | {"layer_norm_eps": 1e-6}}


def names(found: Iterable[str]) -> dict[str, str]:
    """Of the tensors of a checkpoint, those of the model: name -> name in the table."""
    return bare_names(found, PREFIXES, RENAMED, LEFT_OUT)


def file_name(name: str, config: ViTConfig) -> str:
    """A name in the table as a file has it: beside a classifier, the tower has a prefix."""
    if name.startswith("classifier.") or not config.num_classes:
        return name
    return ("ijepa." if config.pool == "mean" else "deit." if config.design.registers else "vit.") + name


def known(settings: Settings) -> Known:
    """From their config.json.

    Raises:
        BundleError: for what the model cannot be.
    """
    return known_from(settings, defaults_of(settings, TYPES))


def table(config: ViTConfig) -> list[Rule]:
    """For weights of a serial design; a distillation token is our one register, with a position."""
    dim, has_class = config.dim, config.pool == "cls"
    rules = query_key_value(config, "encoder.layer.{i}.attention.attention", ("query", "key", "value"))
    ours, count = ["positions.table"], config.num_patches
    if config.design.registers:
        rules.append(Rule([Piece("embeddings.distillation_token", (1, 1, dim))], ["prefix_tokens.registers"]))
        ours, count = ["prefix_tokens.register_positions", *ours], count + 1
    if has_class:
        rules.append(Rule([Piece("embeddings.cls_token", (1, 1, dim))], ["prefix_tokens.class_token"]))
        ours, count = ["prefix_tokens.class_position", *ours], count + 1
    kernel = Piece("embeddings.patch_embeddings.projection.weight", (dim, config.channels, *config.patch_hw))
    rules.append(Rule([kernel], ["patch_embedding.projection.weight"]))
    rules.append(Rule([Piece("embeddings.position_embeddings", (1, count, dim))], ours))
    return complete(config, rules, MODULES)


def config_of(shapes: Shapes, known: Known) -> ViTConfig:
    """Of shapes by the names of the table; without a class token (I-JEPA), pooled by the mean.

    Raises:
        BundleError: for two heads, and for a tensor that is missing.
    """
    if "distillation_classifier.weight" in shapes:
        raise BundleError(
            "the checkpoint is DeiT with two classifiers, whose answers are averaged; megavit's model has one. "
            "Take a DeiTForImageClassification, which has one too"
        )
    dim, channels, *patch = shape_of(shapes, "embeddings.patch_embeddings.projection.weight", axes=4)
    patch_hw = (patch[0], patch[1])
    has_class, registers = "embeddings.cls_token" in shapes, int("embeddings.distillation_token" in shapes)
    count = shape_of(shapes, "embeddings.position_embeddings", axes=3)[1]
    found: dict[str, Any] = {
        "image_size": image_of(count - has_class - registers, patch_hw, known),
        "patch_size": patch_hw,
        "num_classes": shape_of(shapes, "classifier.weight", axes=2)[0] if "classifier.weight" in shapes else 0,
        "dim": dim,
        "depth": depth_of(shapes, "encoder.layer."),
        "mlp_dim": shape_of(shapes, "encoder.layer.0.intermediate.dense.weight", axes=2)[0],
        "pool": "cls" if has_class else "mean",
        "channels": channels,
        "block": "serial",
        "qk_norm": False,
        "qkv_bias": "encoder.layer.0.attention.attention.query.bias" in shapes,
        "norm_bias": True,
        "norm_eps": 1e-12,
        "prefix_positions": "all",
        "registers": registers,
    }
    return config_from(heads_known(found, known), known)
