"""Hugging Face's image towers of CLIP (arXiv 2103.00020) and SigLIP (arXiv 2303.15343), alone or in the whole model."""

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

TOLD_BY = ("embeddings.patch_embedding.weight", "encoder.layers.0.self_attn.q_proj.weight")
PREFIXES = ("vision_model.",)
RENAMED = {r"^encoder\.layer\.": "encoder.layers."}  # AltCLIP's whole models
# The tower that reads text, what compares the two, and numbers from 0 that older files store.
LEFT_OUT = (r"text_model\.", r"text_projection\.", r"logit_(scale|bias)$", r"embeddings\.position_ids$")
MODULES = {
    "embeddings.patch_embedding": "patch_embedding.projection",
    "pre_layrnorm": "pre_norm",
    "encoder.layers.{i}.layer_norm1": "transformer.layers.{i}.attention_norm",
    "encoder.layers.{i}.self_attn.out_proj": "transformer.layers.{i}.attention.out",
    "encoder.layers.{i}.layer_norm2": "transformer.layers.{i}.mlp_norm",
    "encoder.layers.{i}.mlp.fc1": "transformer.layers.{i}.mlp.into",
    "encoder.layers.{i}.mlp.fc2": "transformer.layers.{i}.mlp.out",
    "post_layernorm": "norm",
    "head.attention.out_proj": "pool.out",
    "head.layernorm": "pool.norm",
    "head.mlp.fc1": "pool.mlp_into",
    "head.mlp.fc2": "pool.mlp_out",
    "classifier": "mlp_head",
}
DEFAULTS = {"num_attention_heads": 12, "num_hidden_layers": 12, "image_size": 224}
CLIP = DEFAULTS | {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
SIGLIP = DEFAULTS | {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
TYPES = {"siglip": SIGLIP, "siglip_vision_model": SIGLIP} | {
    name: CLIP
    for family in ("clip", "metaclip_2", "chinese_clip", "altclip")
    for name in (family, f"{family}_vision_model")
}
POSITIONS = "embeddings.position_embedding.weight"


def names(found: Iterable[str]) -> dict[str, str]:
    """Of the tensors of a checkpoint, those of the model: name -> name in the table.

    A classifier reads the mean of SigLIP's patches, past the head that its other uses have.
    """
    found = list(found)
    unused = (r"head\.",) if "classifier.weight" in found else ()
    return bare_names(found, PREFIXES, RENAMED, (*LEFT_OUT, *unused))


def file_name(name: str, config: ViTConfig) -> str:  # noqa: ARG001 - as for every peer that has it
    """A name in the table as a file has it."""
    return name if name.startswith(("classifier.", "visual_projection.")) else PREFIXES[0] + name


def known(settings: Settings) -> Known:
    """From their config.json, of the tower or of the whole model.

    Raises:
        BundleError: for what the model cannot be.
    """
    return known_from(settings.get("vision_config") or settings, defaults_of(settings, TYPES))


def table(config: ViTConfig) -> list[Rule]:
    """For weights of a serial design: CLIP's, if it pools by the class token, else SigLIP's."""
    dim, clip = config.dim, config.pool == "cls"
    kernel = Piece("embeddings.patch_embedding.weight", (dim, config.channels, *config.patch_hw))
    rules = query_key_value(config, "encoder.layers.{i}.self_attn", ("q_proj", "k_proj", "v_proj"))
    rules.append(Rule([kernel], ["patch_embedding.projection.weight"]))
    if clip:
        rules += [
            Rule([Piece(None, (dim,))], ["patch_embedding.projection.bias"]),
            Rule([Piece("embeddings.class_embedding", (dim,))], ["prefix_tokens.class_token"]),
            Rule(
                [Piece(POSITIONS, (1 + config.num_patches, dim))],
                ["prefix_tokens.class_position", "positions.table"],
            ),
        ]
        if config.num_classes:
            projection = Piece("visual_projection.weight", (config.num_classes, dim))
            rules.append(Rule([projection], ["mlp_head.weight"]))
            rules.append(Rule([Piece(None, (config.num_classes,))], ["mlp_head.bias"]))
    else:
        rules.append(Rule([Piece(POSITIONS, (config.num_patches, dim))], ["positions.table"]))
    if config.pool == "map":
        rules.append(Rule([Piece("head.probe", (1, 1, dim))], ["pool.query"]))
        for last, shape in (("weight", (3 * dim, dim)), ("bias", (3 * dim,))):
            ours = [f"pool.to_query.{last}", f"pool.to_key_value.{last}"]
            rules.append(Rule([Piece(f"head.attention.in_proj_{last}", shape)], ours))
    return complete(config, rules, MODULES)


def config_of(shapes: Shapes, known: Known) -> ViTConfig:
    """Of shapes by the names of the table; CLIP's projection into the space of its texts is our head.

    Raises:
        BundleError: for CLIP's classifier, for patches of any number, and for a tensor that is missing.
    """
    clip = "embeddings.class_embedding" in shapes
    if clip and "classifier.weight" in shapes:
        raise BundleError(
            "the checkpoint's classifier reads patches that are not normalized, which megavit's never does. "
            "Take the model without a classifier, and train a new one"
        )
    dim, channels, *patch = shape_of(shapes, "embeddings.patch_embedding.weight", axes=4)
    patch_hw = (patch[0], patch[1])
    count = shape_of(shapes, POSITIONS, axes=2)[0] - clip
    head = "visual_projection.weight" if clip else "classifier.weight"
    found: dict[str, Any] = {
        "image_size": image_of(count, patch_hw, known),
        "patch_size": patch_hw,
        "num_classes": shape_of(shapes, head, axes=2)[0] if head in shapes else 0,
        "dim": dim,
        "depth": depth_of(shapes, "encoder.layers."),
        "mlp_dim": shape_of(shapes, "encoder.layers.0.mlp.fc1.weight", axes=2)[0],
        "pool": "cls" if clip else "map" if "head.probe" in shapes else "mean",
        "channels": channels,
        "block": "serial",
        "qk_norm": False,
        "qkv_bias": True,
        "norm_bias": True,
        "norm_eps": 1e-5 if clip else 1e-6,
        "pre_norm": clip,
        "final_norm": "pooled" if clip else "tokens",
        "mlp": "quick_gelu" if clip else "gelu_tanh",
    }
    return config_from(heads_known(found, known), known)
