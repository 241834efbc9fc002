"""zetascale's `MegaVit` (`zeta.models.MegaVit`), whose layers are not ViT-22B's: see `megavit.model.zeta`."""

from dataclasses import asdict
from typing import Any

from megavit.config.vit import ZETA, ViTConfig
from megavit.errors import BundleError
from megavit.model.statistics import Shapes
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat
from megavit.weights.pretrained.mappings.config_from_shapes import (
    Overrides,
    config_from,
    field_of,
    heads_of_width,
    image_of,
    shape_of,
)
from megavit.weights.pretrained.mappings.key_mapping import renames, rule
from megavit.weights.pretrained.mappings.vit_pytorch import (
    LAYER,
    MODULES,
    OUT_RULES,
    PATCH_RULES,
    PIXELS,
    QKV,
    patch_fields,
)

VALUE_NORM = "transformer.layers.0.0.norm_v.weight"
# The one norm of all layers and the end is written only while ours, a copy each, are equal.
RULES = (
    *PATCH_RULES,
    *OUT_RULES,
    rule("cls_token: 1 1 D", "prefix_tokens.class_token"),
    rule("pos_embedding: 1 * D", ["prefix_tokens.class_position", "positions.table"]),
    *renames({
        "transformer.norm": f"{LAYER}.stream_norm",
        f"{LAYER}.0.norm_k": f"{LAYER}.attention.key_norm",
        f"{LAYER}.0.norm_v": f"{LAYER}.attention.value_norm",
    }),
    *MODULES,
)  # fmt: skip


def config_of(shapes: Shapes, overrides: Overrides) -> ViTConfig:
    """Return the config: of norms of epsilon 1e-5, the exact GELU, and pooling by the class token.

    Raises:
        BundleError: where `pool` is known to be "mean", which there is a mean over class token and patches; and
            when patches or image are not determined by the shapes and not known.
    """
    if overrides.get("pool", "cls") == "mean":
        raise BundleError("zetascale's mean is taken over the class token too; this model's over patches alone")
    dim_head = shape_of(shapes, VALUE_NORM, axes=1)[0]
    fields = patch_fields(shapes, overrides, "mlp_head.weight") | asdict(ZETA)
    fields |= {
        "image_size": image_of(shape_of(shapes, "pos_embedding", axes=3)[1] - 1, fields["patch_size"], overrides),
        "heads": heads_of_width(shape_of(shapes, QKV, axes=2)[0] // 3, {"dim_head": dim_head})[0],
        "dim_head": dim_head,
    }
    return config_from(fields, overrides)


def undetermined(config: ViTConfig) -> dict[str, Any]:
    """Return what no shape determines; the norm of values determines the heads."""
    return {name: field_of(config, name) for name in ("mlp", "norm_eps", "pool", "patch_size", "channels")}


ZETASCALE = CheckpointFormat(
    name="zeta",
    signature=(PIXELS, "cls_token", "pos_embedding", QKV, VALUE_NORM),
    rules=RULES,
    config_from=config_of,
    undetermined=undetermined,
    head="mlp_head",
)
