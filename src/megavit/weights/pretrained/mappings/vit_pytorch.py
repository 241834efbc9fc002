"""Key mapping for vit-pytorch's `ViT` and `SimpleViT` (arXiv 2205.01580: sine-cosine positions, mean pooling)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat
from megavit.weights.pretrained.mappings.config_from_shapes import CheckpointFacts, Fields, undetermined_fields
from megavit.weights.pretrained.mappings.key_mapping import renames, rule

LAYER = "transformer.layers.{i}"
PIXELS, QKV = "to_patch_embedding.2.weight", "transformer.layers.0.0.to_qkv.weight"


def has_no_projection(config: ViTConfig) -> bool:
    """Return whether attention has no output projection: it has one head as wide as a token."""
    return config.heads == 1 and config.dim_head == config.dim


# vit-pytorch flattens a patch as (row, column, channel).
PATCH_RULES = (
    rule("to_patch_embedding.1.weight: (P Q C) -> C P Q", "patch_embedding.pixel_norm.weight"),
    rule("to_patch_embedding.1.bias: (P Q C) -> C P Q", "patch_embedding.pixel_norm.bias"),
    rule(f"{PIXELS}: D (P Q C) -> D C P Q", "patch_embedding.projection.weight"),
)
OUT_RULES = (
    rule("1: D D", f"{LAYER}.attention.out.weight", when=has_no_projection),
    rule("0: D", f"{LAYER}.attention.out.bias", when=has_no_projection),
)
MODULES = renames({
    "to_patch_embedding.2": "patch_embedding.projection",
    "to_patch_embedding.3": "patch_embedding.norm",
    f"{LAYER}.0.norm": f"{LAYER}.attention_norm",
    f"{LAYER}.0.to_qkv": f"{LAYER}.attention.to_qkv",
    f"{LAYER}.0.to_out.0": f"{LAYER}.attention.out",
    f"{LAYER}.1.net.0": f"{LAYER}.mlp_norm",
    f"{LAYER}.1.net.1": f"{LAYER}.mlp.into",
    f"{LAYER}.1.net.4": f"{LAYER}.mlp.out",
    "transformer.norm": "norm",
    "mlp_head": "mlp_head",
})  # fmt: skip
VIT_RULES = (
    *PATCH_RULES,
    *OUT_RULES,
    rule("cls_token: 1 D", "prefix_tokens.class_token"),
    rule("cls_token: 0 D", when=lambda config: config.pool != "cls"),
    rule("pos_embedding: * D", ["prefix_tokens.class_position", "positions.table"]),
    *MODULES,
)
SIMPLE_RULES = (
    *PATCH_RULES,
    rule("0: D", f"{LAYER}.attention.out.bias"),
    *renames({
        f"{LAYER}.1.net.3": f"{LAYER}.mlp.out",
        f"{LAYER}.0.to_out": f"{LAYER}.attention.out",
        "linear_head": "mlp_head",
    }),
    *MODULES,
)  # fmt: skip


def without_batch_axis(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without the batch axis of class token and positions in older versions."""
    return {
        name: tensor.flatten(0, -2) if name in ("cls_token", "pos_embedding") and tensor.ndim > 2 else tensor
        for name, tensor in tensors.items()
    }


def patch_fields(facts: CheckpointFacts, head: str) -> Fields:
    """Return the fields common to models of this library; the norms' epsilon is 1e-5."""
    dim, pixels = facts.shape(PIXELS, axes=2)
    return facts.patch_fields(pixels) | {
        "num_classes": facts.num_classes(head),
        "dim": dim,
        "depth": facts.depth("transformer.layers."),
        "mlp_dim": facts.shape("transformer.layers.0.1.net.1.weight", axes=2)[0],
        "block": "serial",
        "qk_norm": False,
        "norm_bias": True,
        "norm_eps": 1e-5,
        "patch_norm": True,
    }


def fields_of_vit(facts: CheckpointFacts) -> Fields:
    """Return the fields of a `ViT`; the defaults are the exact GELU and heads of width 64."""
    by_class = facts.shape("cls_token", axes=2)[0] == 1
    if by_class and facts.overrides.get("pool", "cls") == "mean":
        raise BundleError("the checkpoint's mean pooling includes the class token, but megavit's only the patches")
    fields = patch_fields(facts, "mlp_head.weight")
    projected = "transformer.layers.0.0.to_out.0.weight" in facts
    known = facts.overrides if projected else {"heads": 1, "dim_head": fields["dim"]}
    patches = facts.shape("pos_embedding", axes=2)[0] - by_class
    heads = facts.head_fields(facts.shape(QKV, axes=2)[0] // 3, known)
    image_size = facts.image_size(patches, fields["patch_size"])
    fields |= heads | {"certain": {} if projected else heads}
    return fields | {"image_size": image_size, "pool": "cls" if by_class else "mean"}


def fields_of_simple_vit(facts: CheckpointFacts) -> Fields:
    """Return the fields of a `SimpleViT`, whose image size must be given."""
    facts.require_image_size()
    heads = facts.head_fields(facts.shape(QKV, axes=2)[0] // 3, facts.overrides)
    return patch_fields(facts, "linear_head.weight") | heads | {"pool": "mean", "positions": "sincos"}


def undetermined(config: ViTConfig) -> dict[str, Any]:
    """Return the fields that no shape determines, including the pooling, patch size and channels."""
    fields = undetermined_fields(config, "pool", "patch_size", "channels")
    if has_no_projection(config):
        del fields["heads"]
    return fields


VIT_PYTORCH = CheckpointFormat(
    name="vit-pytorch",
    signature=(PIXELS, "cls_token", "pos_embedding", QKV),
    rules=VIT_RULES,
    fields=fields_of_vit,
    normalize=without_batch_axis,
    undetermined=undetermined,
    head="mlp_head",
)
SIMPLE_VIT = CheckpointFormat(
    name="vit-pytorch's SimpleViT",
    signature=(PIXELS, "linear_head.weight", "transformer.layers.0.0.to_out.weight"),
    rules=SIMPLE_RULES,
    fields=fields_of_simple_vit,
    undetermined=lambda config: undetermined_fields(config, "patch_size", "channels"),
    head="linear_head",
)
