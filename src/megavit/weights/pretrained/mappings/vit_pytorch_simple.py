"""vit-pytorch's `SimpleViT` (arXiv 2205.01580): sines for positions, the mean for pooling, no bias after attention."""

from typing import Any

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.key_mapping import Piece, Rule, Shapes, complete
from megavit.weights.pretrained.mappings.shapes import (
    Known,
    classes_of,
    config_from,
    depth_of,
    heads_of_width,
    patch_of,
    shape_of,
    untold,
)
from megavit.weights.pretrained.mappings.vit_pytorch_vit import LAYER, MODULES, OURS, patch_rules

TOLD_BY = ("to_patch_embedding.2.weight", "linear_head.weight", "transformer.layers.0.0.to_out.weight")
RENAMED = {
    LAYER + ".1.net.3": OURS + ".mlp.out",
    LAYER + ".0.to_out": OURS + ".attention.out",
    "linear_head": "mlp_head",
}


def table(config: ViTConfig) -> list[Rule]:
    """For weights of a serial design with norms around the patch projection and sincos positions."""
    rules = patch_rules(config)
    for i in range(config.depth):
        rules.append(Rule([Piece(None, (config.dim,))], [OURS.format(i=i) + ".attention.out.bias"]))
    return complete(config, rules, MODULES | RENAMED)


def config_of(shapes: Shapes, known: Known) -> ViTConfig:
    """The norms' epsilon is 1e-5, the activation the exact GELU, and a head 64 wide, unless known otherwise.

    Raises:
        BundleError: unless the image size is known, of which such a checkpoint has no trace; and when patches or
            heads are not to be told from the shapes and not known.
    """
    if "image_size" not in known:
        raise BundleError(
            "the checkpoint has computed positions and nothing says of what images; say the image size: "
            "megavit convert --image-size"
        )
    dim, pixels = shape_of(shapes, "to_patch_embedding.2.weight", axes=2)
    patch_hw, channels = patch_of(pixels, known)
    heads, dim_head = heads_of_width(shape_of(shapes, "transformer.layers.0.0.to_qkv.weight", axes=2)[0] // 3, known)
    found: dict[str, Any] = {
        "patch_size": patch_hw,
        "num_classes": classes_of(shapes, "linear_head.weight"),
        "dim": dim,
        "depth": depth_of(shapes, "transformer.layers."),
        "heads": heads,
        "dim_head": dim_head,
        "mlp_dim": shape_of(shapes, "transformer.layers.0.1.net.1.weight", axes=2)[0],
        "pool": "mean",
        "channels": channels,
        "block": "serial",
        "qk_norm": False,
        "norm_bias": True,
        "norm_eps": 1e-5,
        "patch_norm": True,
        "positions": "sincos",
    }
    return config_from(found, known)


def assumed(config: ViTConfig) -> dict[str, Any]:
    """Return what no shape tells: beside the usual how a patch's numbers are divided into pixels and channels."""
    return untold(config, "patch_size", "channels")
