"""Hugging Face's DINOv2, with and without registers (arXiv 2304.07193, 2309.16588)."""

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

TOLD_BY = ("embeddings.patch_embeddings.projection.weight", "encoder.layer.0.layer_scale1.lambda1")
PREFIXES = ("dinov2_with_registers.", "dinov2.")
RENAMED = {
    r"^(encoder\.layer\.\d+\.attention)\.o_proj\.": r"\1.output.dense.",
    r"^(encoder\.layer\.\d+\.attention)\.q_proj\.": r"\1.attention.query.",
    r"^(encoder\.layer\.\d+\.attention)\.k_proj\.": r"\1.attention.key.",
    r"^(encoder\.layer\.\d+\.attention)\.v_proj\.": r"\1.attention.value.",
}
LEFT_OUT = (r"embeddings\.mask_token$",)  # for pre-training
MODULES = {
    "embeddings.patch_embeddings.projection": "patch_embedding.projection",
    "encoder.layer.{i}.norm1": "transformer.layers.{i}.attention_norm",
    "encoder.layer.{i}.attention.output.dense": "transformer.layers.{i}.attention.out",
    "encoder.layer.{i}.norm2": "transformer.layers.{i}.mlp_norm",
    "layernorm": "norm",
}
GELU = {
    "encoder.layer.{i}.mlp.fc1": "transformer.layers.{i}.mlp.into",
    "encoder.layer.{i}.mlp.fc2": "transformer.layers.{i}.mlp.out",
}
SWIGLU = {
    "encoder.layer.{i}.mlp.weights_in": "transformer.layers.{i}.mlp.into",
    "encoder.layer.{i}.mlp.weights_out": "transformer.layers.{i}.mlp.out",
}
DEFAULTS = {
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "image_size": 224,
}
TYPES = {"dinov2": DEFAULTS, "dinov2_with_registers": DEFAULTS}


def names(found: Iterable[str]) -> dict[str, str]:
    """Of the tensors of a checkpoint, those of the model: name -> name in the table."""
    return bare_names(found, PREFIXES, RENAMED, LEFT_OUT)


def known(settings: Settings) -> Known:
    """From their config.json.

    Raises:
        BundleError: for what the model cannot be.
    """
    both = known_from(settings, defaults_of(settings, TYPES))
    return both | {"mlp": "swiglu"} if settings.get("use_swiglu_ffn") else both


def table(config: ViTConfig) -> list[Rule]:
    """For weights of a serial design without a classifier."""
    dim, registers = config.dim, config.design.registers
    kernel = Piece("embeddings.patch_embeddings.projection.weight", (dim, config.channels, *config.patch_hw))
    rules = [
        *query_key_value(config, "encoder.layer.{i}.attention.attention", ("query", "key", "value")),
        Rule([kernel], ["patch_embedding.projection.weight"]),
        Rule([Piece("embeddings.cls_token", (1, 1, dim))], ["prefix_tokens.class_token"]),
        Rule(
            [Piece("embeddings.position_embeddings", (1, 1 + config.num_patches, dim))],
            ["prefix_tokens.class_position", "positions.table"],
        ),
    ]
    if registers:
        rules.append(Rule([Piece("embeddings.register_tokens", (1, registers, dim))], ["prefix_tokens.registers"]))
    for i in range(config.depth):
        for theirs, ours in (("layer_scale1", "attention_scale"), ("layer_scale2", "mlp_scale")):
            piece = Piece(f"encoder.layer.{i}.{theirs}.lambda1", (dim,))
            rules.append(Rule([piece], [f"transformer.layers.{i}.{ours}.factor"]))
    return complete(config, rules, MODULES | (SWIGLU if config.design.mlp == "swiglu" else GELU))


def config_of(shapes: Shapes, known: Known) -> ViTConfig:
    """Of shapes by the names of the table.

    Raises:
        BundleError: for a classifier, which has two inputs there, for what no file has, and for a tensor that is
            missing.
    """
    if "classifier.weight" in shapes:
        raise BundleError(
            "the checkpoint's classifier reads the class token beside the mean of the patches; megavit's model has "
            "one of the two. Take the model without a classifier, and train a new one"
        )
    if "encoder.layer.0.mlp.gate_proj.weight" in shapes:
        raise BundleError(
            "the checkpoint has the names that the model has in memory, with gate and value apart; "
            "have transformers write it with save_pretrained, which joins them"
        )
    dim, channels, *patch = shape_of(shapes, "embeddings.patch_embeddings.projection.weight", axes=4)
    patch_hw = (patch[0], patch[1])
    swiglu = "encoder.layer.0.mlp.weights_out.weight" in shapes
    last = "encoder.layer.0.mlp.weights_out.weight" if swiglu else "encoder.layer.0.mlp.fc2.weight"
    registers = "embeddings.register_tokens"
    found: dict[str, Any] = {
        "image_size": image_of(shape_of(shapes, "embeddings.position_embeddings", axes=3)[1] - 1, patch_hw, known),
        "patch_size": patch_hw,
        "num_classes": 0,
        "dim": dim,
        "depth": depth_of(shapes, "encoder.layer."),
        "mlp_dim": shape_of(shapes, last, axes=2)[1],
        "channels": channels,
        "block": "serial",
        "qk_norm": False,
        "qkv_bias": "encoder.layer.0.attention.attention.query.bias" in shapes,
        "norm_bias": True,
        "mlp": "swiglu" if swiglu else "gelu",
        "registers": shape_of(shapes, registers, axes=3)[1] if registers in shapes else 0,
        "layer_scale": 1.0,
    }
    return config_from(heads_known(found, known), known)
