"""vit-pytorch's `ViT`."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.key_mapping import Piece, Rule, Shapes, complete
from megavit.weights.pretrained.mappings.shapes import (
    Known,
    classes_of,
    config_from,
    depth_of,
    heads_of_width,
    image_of,
    patch_of,
    shape_of,
    untold,
)

TOLD_BY = ("to_patch_embedding.2.weight", "cls_token", "pos_embedding", "transformer.layers.0.0.to_qkv.weight")
LAYER, OURS = "transformer.layers.{i}", "transformer.layers.{i}"
MODULES = {
    "to_patch_embedding.2": "patch_embedding.projection",
    "to_patch_embedding.3": "patch_embedding.norm",
    LAYER + ".0.norm": OURS + ".attention_norm",
    LAYER + ".0.to_qkv": OURS + ".attention.to_qkv",
    LAYER + ".0.to_out.0": OURS + ".attention.out",
    LAYER + ".1.net.0": OURS + ".mlp_norm",
    LAYER + ".1.net.1": OURS + ".mlp.into",
    LAYER + ".1.net.4": OURS + ".mlp.out",
    "transformer.norm": "norm",
    "mlp_head": "mlp_head",
}


def tidy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """In older versions the class token and the positions have a batch axis."""
    return {
        name: tensor.flatten(0, -2) if name in ("cls_token", "pos_embedding") and tensor.ndim > 2 else tensor
        for name, tensor in tensors.items()
    }


def patch_rules(config: ViTConfig) -> list[Rule]:
    """The norm and the projection of a patch's numbers, which are (row, column, channel) there."""
    (height, width), channels, dim = config.patch_hw, config.channels, config.dim
    pixels = height * width * channels
    norm = ((pixels,), (height, width, channels), (2, 0, 1))
    weight = ((dim, pixels), (dim, height, width, channels), (0, 3, 1, 2))
    return [
        Rule([Piece("to_patch_embedding.1.weight", *norm)], ["patch_embedding.pixel_norm.weight"]),
        Rule([Piece("to_patch_embedding.1.bias", *norm)], ["patch_embedding.pixel_norm.bias"]),
        Rule([Piece("to_patch_embedding.2.weight", *weight)], ["patch_embedding.projection.weight"]),
    ]


def output_rules(config: ViTConfig) -> list[Rule]:
    """One head as wide as a token has no projection after it there."""
    dim, rules = config.dim, []
    for i in range(config.depth if config.heads == 1 and config.dim_head == dim else 0):
        out = OURS.format(i=i) + ".attention.out."
        rules.append(Rule([Piece(None, (dim, dim), fixed=torch.eye(dim))], [out + "weight"]))
        rules.append(Rule([Piece(None, (dim,))], [out + "bias"]))
    return rules


def table(config: ViTConfig) -> list[Rule]:
    """For weights of a serial design with norms around the patch projection."""
    dim, by_class = config.dim, config.pool == "cls"
    class_position = ["prefix_tokens.class_position"] if by_class else []
    rules = [
        *patch_rules(config),
        Rule([Piece("cls_token", (int(by_class), dim))], ["prefix_tokens.class_token"] if by_class else []),
        Rule([Piece("pos_embedding", (config.num_patches + by_class, dim))], [*class_position, "positions.table"]),
        *output_rules(config),
    ]
    return complete(config, rules, MODULES)


def config_of(shapes: Shapes, known: Known) -> ViTConfig:
    """The norms' epsilon is 1e-5, the activation the exact GELU, and a head 64 wide, unless known otherwise.

    Raises:
        BundleError: for a mean over patches and class token, as in older versions; and when patches, heads or image
            are not to be told from the shapes and not known.
    """
    by_class = shape_of(shapes, "cls_token", axes=2)[0] == 1
    if by_class and known.get("pool", "cls") == "mean":
        raise BundleError("the checkpoint's mean is taken over the class token too; this model's over patches alone")
    dim, pixels = shape_of(shapes, "to_patch_embedding.2.weight", axes=2)
    patch_hw, channels = patch_of(pixels, known)
    inner = shape_of(shapes, "transformer.layers.0.0.to_qkv.weight", axes=2)[0] // 3
    if "transformer.layers.0.0.to_out.0.weight" not in shapes:
        known = {**known, "heads": 1, "dim_head": dim}
    heads, dim_head = heads_of_width(inner, known)
    found: dict[str, Any] = {
        "image_size": image_of(shape_of(shapes, "pos_embedding", axes=2)[0] - by_class, patch_hw, known),
        "patch_size": patch_hw,
        "num_classes": classes_of(shapes, "mlp_head.weight"),
        "dim": dim,
        "depth": depth_of(shapes, "transformer.layers."),
        "heads": heads,
        "dim_head": dim_head,
        "mlp_dim": shape_of(shapes, "transformer.layers.0.1.net.1.weight", axes=2)[0],
        "pool": "cls" if by_class else "mean",
        "channels": channels,
        "block": "serial",
        "qk_norm": False,
        "norm_bias": True,
        "norm_eps": 1e-5,
        "patch_norm": True,
    }
    return config_from(found, known)


def assumed(config: ViTConfig) -> dict[str, Any]:
    """Return what no shape tells: beside the usual how a patch's numbers are divided into pixels and channels."""
    fields = untold(config, "pool", "patch_size", "channels")
    if config.heads == 1 and config.dim_head == config.dim:
        del fields["heads"]  # as nothing is projected after it
    return fields
