"""Key mapping for zetascale's `MegaVit` (`zeta.models.MegaVit`), whose layers are in `megavit.model.zeta`."""

from dataclasses import asdict
from typing import Any

from megavit.config.vit import ZETA, ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat
from megavit.weights.pretrained.mappings.config_from_shapes import CheckpointFacts, Fields, get_field
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
# zetascale shares one norm between all layers and the end; it is written only if our copies are equal.
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


def fields_of(facts: CheckpointFacts) -> Fields:
    """Return the config fields of a checkpoint; raise a BundleError for mean pooling, which averages all tokens."""
    if facts.overrides.get("pool", "cls") == "mean":
        raise BundleError("zetascale's mean pooling includes the class token, but megavit's only the patches")
    dim_head = facts.shape(VALUE_NORM, axes=1)[0]
    fields = patch_fields(facts, "mlp_head.weight") | asdict(ZETA)
    fields |= {
        "image_size": facts.image_size(facts.shape("pos_embedding", axes=3)[1] - 1, fields["patch_size"]),
    }
    return fields | facts.head_fields(facts.shape(QKV, axes=2)[0] // 3, {"dim_head": dim_head})


def undetermined(config: ViTConfig) -> dict[str, Any]:
    """Return the fields that no shape determines; the value norm determines the heads."""
    return {name: get_field(config, name) for name in ("mlp", "norm_eps", "pool", "patch_size", "channels")}


ZETASCALE = CheckpointFormat(
    name="zeta",
    signature=(PIXELS, "cls_token", "pos_embedding", QKV, VALUE_NORM),
    rules=RULES,
    fields=fields_of,
    undetermined=undetermined,
    head="mlp_head",
)
