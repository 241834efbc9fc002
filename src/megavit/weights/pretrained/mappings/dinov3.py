"""Key mapping for the original DINOv3 (`facebookresearch/dinov3`; arXiv 2508.10104)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.model.pos_embed import RotaryPositions
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat
from megavit.weights.pretrained.mappings.config_from_shapes import CheckpointFacts, Fields, undetermined_fields
from megavit.weights.pretrained.mappings.dinov2 import MLP_OUT, TOWERS
from megavit.weights.pretrained.mappings.key_mapping import renames, rule
from megavit.weights.pretrained.mappings.timm_vit import SERIAL

IMAGE_SIZE = 256  # of the last training stage; others work, as positions are computed
KEY_BIAS = "blocks.{i}.attn.qkv.bias"


def has_qkv_bias(config: ViTConfig) -> bool:
    return config.design.qkv_bias


def is_gated(config: ViTConfig) -> bool:
    return config.design.mlp == "swiglu"


def periods(config: ViTConfig) -> Tensor:
    """Return the rotary periods, of shape (dim_head / 4,)."""
    quarter = config.dim_head // 4
    return RotaryPositions.base ** (torch.arange(quarter) / quarter)


def per_projection(query_and_value: float, key: float, config: ViTConfig) -> Tensor:
    """Return one number for each channel of queries, keys and values."""
    width = config.heads * config.dim_head
    return torch.tensor([query_and_value, key, query_and_value]).repeat_interleave(width)


# Keys have no bias. The mask token is only used in pre-training, and is written as zeros.
RULES = (
    rule("mask_token: 1 D"),
    rule("rope_embed.periods: K/4", fixed=periods),
    rule("storage_tokens: 1 R D", "prefix_tokens.registers"),
    rule(
        f"{KEY_BIAS}: 3I",
        "transformer.layers.{i}.attention.to_qkv.bias",
        fixed=lambda config: per_projection(torch.nan, 0, config),
    ),
    rule(f"{KEY_BIAS}_mask: 3I", when=has_qkv_bias, fixed=lambda config: per_projection(1, 0, config)),
    rule(
        ["blocks.{i}.mlp.w1.weight: M D", "blocks.{i}.mlp.w2.weight: M D"],
        "transformer.layers.{i}.mlp.into.weight",
        when=is_gated,
    ),
    rule(
        ["blocks.{i}.mlp.w1.bias: M", "blocks.{i}.mlp.w2.bias: M"],
        "transformer.layers.{i}.mlp.into.bias",
        when=is_gated,
    ),
    *renames({"blocks.{i}.mlp.w3": "transformer.layers.{i}.mlp.out"}, when=is_gated),
    *SERIAL,
)


def mask_biases(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with the masked key biases set to zero."""
    masked = dict(tensors)
    for name in tensors:
        mask = tensors.get(f"{name}_mask")
        if name.endswith("qkv.bias") and mask is not None and mask.shape == tensors[name].shape:
            masked[name] = tensors[name].where(mask != 0, 0)
    return masked


def fields_of(facts: CheckpointFacts) -> Fields:
    """Return the config fields of a model without a head, pooled by the class token; the norms' epsilon is 1e-5."""
    gated = MLP_OUT[1] in facts
    fields = facts.plain_fields(kernel="patch_embed.proj.weight", layers="blocks.", mlp_out=MLP_OUT[gated])
    dim_head = 4 * facts.shape("rope_embed.periods", axes=1)[0]
    if not all((dim_head, *fields["patch_size"])):
        raise BundleError("the checkpoint has patches or rotations of size 0: it may be incomplete")
    fields |= {
        "image_size": tuple(IMAGE_SIZE // side * side for side in fields["patch_size"]),
        "heads": facts.shape("blocks.0.attn.qkv.weight", axes=2)[0] // 3 // dim_head,
        "dim_head": dim_head,
        "qkv_bias": "blocks.0.attn.qkv.bias" in facts,
        "norm_eps": 1e-5,
        "mlp": "swiglu" if gated else "gelu",
        "positions": "rope",
        "registers": facts.tokens("storage_tokens"),
        "layer_scale": 1.0 if "blocks.0.ls1.gamma" in facts else None,
    }
    return fields


DINOV3 = CheckpointFormat(
    name="DINOv3",
    signature=("mask_token", "cls_token", "rope_embed.periods", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"),
    rules=RULES,
    fields=fields_of,
    unsupported={"cls_norm.weight": "normalizes class token and patches separately, but megavit has one norm for all"},
    towers=TOWERS,
    left_out=(r"local_cls_norm\.",),  # only training uses it
    normalize=mask_biases,
    undetermined=lambda config: undetermined_fields(config, "image_size"),
)
