"""zetascale's `MegaVit` (`zeta.models.MegaVit`), whose layers are not ViT-22B's: see `megavit.model.zeta`."""

from dataclasses import asdict
from typing import Any

from megavit.config.vit import ZETA, ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.key_mapping import Piece, Rule, Shapes, complete
from megavit.weights.pretrained.mappings.shapes import (
    Known,
    classes_of,
    config_from,
    depth_of,
    field_of,
    heads_of_width,
    image_of,
    patch_of,
    shape_of,
)
from megavit.weights.pretrained.mappings.vit_pytorch_vit import LAYER, MODULES, OURS, output_rules, patch_rules

TOLD_BY = (
    "to_patch_embedding.2.weight",
    "cls_token",
    "pos_embedding",
    "transformer.layers.0.0.to_qkv.weight",
    "transformer.layers.0.0.norm_v.weight",
)
NORMS = {
    LAYER + ".0.norm_k": OURS + ".attention.key_norm",
    LAYER + ".0.norm_v": OURS + ".attention.value_norm",
}


def table(config: ViTConfig) -> list[Rule]:
    """For weights of the design `ZETA`. Its one norm is written only while ours, a copy a layer, are equal."""
    dim = config.dim
    ours = [*(f"transformer.layers.{i}.stream_norm." for i in range(config.depth)), "norm."]
    shared = [
        Rule([Piece("transformer.norm." + last, (dim,))] * len(ours), [name + last for name in ours])
        for last in ("weight", "bias")
    ]
    return complete(
        config,
        [
            *patch_rules(config),
            Rule([Piece("cls_token", (1, 1, dim))], ["prefix_tokens.class_token"]),
            Rule(
                [Piece("pos_embedding", (1, config.num_patches + 1, dim))],
                ["prefix_tokens.class_position", "positions.table"],
            ),
            *shared,
            *output_rules(config),
        ],
        MODULES | NORMS,
    )


def config_of(shapes: Shapes, known: Known) -> ViTConfig:
    """The norms' epsilon is 1e-5, the activation the exact GELU, and pooling by the class token.

    Raises:
        BundleError: where `pool` is known to be "mean", which there is a mean over class token and patches; and
            when patches or image are not to be told from the shapes and not known.
    """
    if known.get("pool", "cls") == "mean":
        raise BundleError("zetascale's mean is taken over the class token too; this model's over patches alone")
    dim, pixels = shape_of(shapes, "to_patch_embedding.2.weight", axes=2)
    patch_hw, channels = patch_of(pixels, known)
    dim_head = shape_of(shapes, "transformer.layers.0.0.norm_v.weight", axes=1)[0]
    inner = shape_of(shapes, "transformer.layers.0.0.to_qkv.weight", axes=2)[0] // 3
    found: dict[str, Any] = {
        "image_size": image_of(shape_of(shapes, "pos_embedding", axes=3)[1] - 1, patch_hw, known),
        "patch_size": patch_hw,
        "num_classes": classes_of(shapes, "mlp_head.weight"),
        "dim": dim,
        "depth": depth_of(shapes, "transformer.layers."),
        "heads": heads_of_width(inner, {"dim_head": dim_head})[0],
        "dim_head": dim_head,
        "mlp_dim": shape_of(shapes, "transformer.layers.0.1.net.1.weight", axes=2)[0],
        "channels": channels,
    }
    return config_from(asdict(ZETA) | found, known)


def assumed(config: ViTConfig) -> dict[str, Any]:
    """Return what no shape tells; the norm of values tells the heads."""
    names = ("mlp", "norm_eps", "pool", "patch_size", "channels")
    return {name: field_of(config, name) for name in names}
