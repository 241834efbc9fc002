"""torchvision's `VisionTransformer` (`vit_b_16` ... `vit_h_14`)."""

import re
from collections.abc import Iterable
from typing import Any

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.key_mapping import Piece, Rule, Shapes, complete
from megavit.weights.pretrained.mappings.shapes import (
    Known,
    classes_of,
    config_from,
    depth_of,
    heads_known,
    image_of,
    shape_of,
)

TOLD_BY = ("class_token", "encoder.pos_embedding", "encoder.layers.encoder_layer_0.self_attention.in_proj_weight")
LAYER = "encoder.layers.encoder_layer_{i}"
MODULES = {
    "conv_proj": "patch_embedding.projection",
    LAYER + ".ln_1": "transformer.layers.{i}.attention_norm",
    LAYER + ".self_attention.out_proj": "transformer.layers.{i}.attention.out",
    LAYER + ".ln_2": "transformer.layers.{i}.mlp_norm",
    LAYER + ".mlp.0": "transformer.layers.{i}.mlp.into",
    LAYER + ".mlp.3": "transformer.layers.{i}.mlp.out",
    "encoder.ln": "norm",
    "heads.head": "mlp_head",
}


def names(found: Iterable[str]) -> dict[str, str]:
    """In older versions the MLP's layers are called `linear_1` and `linear_2`."""
    old = {"mlp.linear_1": "mlp.0", "mlp.linear_2": "mlp.3"}
    return {name: re.sub("|".join(old), lambda match: old[match[0]], name) for name in found}


def table(config: ViTConfig) -> list[Rule]:
    """For weights of the plain design, pooled by the class token."""
    dim, patch = config.dim, (config.dim, config.channels, *config.patch_hw)
    rules = [
        Rule([Piece("conv_proj.weight", patch)], ["patch_embedding.projection.weight"]),
        Rule([Piece("class_token", (1, 1, dim))], ["prefix_tokens.class_token"]),
        Rule(
            [Piece("encoder.pos_embedding", (1, config.num_patches + 1, dim))],
            ["prefix_tokens.class_position", "positions.table"],
        ),
    ]
    for i in range(config.depth):
        theirs, ours = LAYER.format(i=i) + ".self_attention.in_proj_", f"transformer.layers.{i}.attention.to_qkv."
        rules.append(Rule([Piece(theirs + "weight", (3 * dim, dim))], [ours + "weight"]))
        rules.append(Rule([Piece(theirs + "bias", (3 * dim,))], [ours + "bias"]))
    return complete(config, rules, MODULES)


def config_of(shapes: Shapes, known: Known) -> ViTConfig:
    """The norms' epsilon is 1e-6 and the activation the exact GELU, unless known otherwise.

    Raises:
        BundleError: for a head of two layers, or a stem of several convolutions, which our model has not.
    """
    if "heads.pre_logits.weight" in shapes:
        raise BundleError("the checkpoint has a head of two layers (representation_size); this model's has one")
    if "conv_proj.weight" not in shapes:
        raise BundleError("the checkpoint's patches go through several convolutions; this model's go through one")
    dim, channels, *patch = shape_of(shapes, "conv_proj.weight", axes=4)
    patch_hw = (patch[0], patch[1])
    found: dict[str, Any] = {
        "image_size": image_of(shape_of(shapes, "encoder.pos_embedding", axes=3)[1] - 1, patch_hw, known),
        "patch_size": patch_hw,
        "num_classes": classes_of(shapes, "heads.head.weight"),
        "dim": dim,
        "depth": depth_of(shapes, "encoder.layers.encoder_layer_"),
        "mlp_dim": shape_of(shapes, "encoder.layers.encoder_layer_0.mlp.0.weight", axes=2)[0],
        "channels": channels,
        "block": "serial",
        "qk_norm": False,
        "qkv_bias": True,
        "norm_bias": True,
    }
    return config_from(heads_known(found, known), known)
