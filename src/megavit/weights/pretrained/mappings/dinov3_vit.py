"""The files of DINOv3 itself (`facebookresearch/dinov3`; arXiv 2508.10104)."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.model.pos_embed import RotaryPositions
from megavit.weights.pretrained.mappings.key_mapping import Piece, Rule, Shapes, complete
from megavit.weights.pretrained.mappings.shapes import Known, config_from, depth_of, shape_of, under, untold
from megavit.weights.pretrained.mappings.timm_vit import MODULES, PROJECTION

TOLD_BY = ("mask_token", "cls_token", "rope_embed.periods", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight")
GATED = {"blocks.{i}.mlp.w3": "transformer.layers.{i}.mlp.out"}
IMAGE = 256  # of the last stage of training; any other will do, as positions are computed


def names(found: Iterable[str]) -> dict[str, str]:
    """Of a training checkpoint, the teacher's backbone; a norm that only training uses is left out."""
    bare = under(found, ("teacher.backbone.", "backbone."))
    return {name: without for name, without in bare.items() if not without.startswith("local_cls_norm.")}


def tidy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Biases of keys are masked there; whatever is stored in their place is 0 here."""
    masked = dict(tensors)
    for name in tensors:
        mask = tensors.get(f"{name}_mask")
        if name.endswith("qkv.bias") and mask is not None and mask.shape == tensors[name].shape:
            masked[name] = tensors[name].where(mask != 0, 0)
    return masked


def table(config: ViTConfig) -> list[Rule]:
    """For weights of a serial design with rotary positions, pooled by the class token, and without biases of keys.

    Periods are fixed: those of a file may be rounded to bfloat16, as DINOv3's are, and are written exactly. The mask
    token is for pre-training and no part of our model: it is written as zeros.
    """
    design, dim, inner, hidden = config.design, config.dim, config.heads * config.dim_head, config.mlp_dim
    quarter = config.dim_head // 4
    periods = RotaryPositions.base ** (torch.arange(quarter) / quarter)
    patch = (dim, config.channels, *config.patch_hw)
    rules = [
        Rule([Piece("patch_embed.proj.weight", patch)], [PROJECTION + ".weight"]),
        Rule([Piece("cls_token", (1, 1, dim))], ["prefix_tokens.class_token"]),
        Rule([Piece("mask_token", (1, dim))], []),
        Rule([Piece("rope_embed.periods", (quarter,), fixed=periods)], []),
    ]
    if design.registers:
        rules.append(Rule([Piece("storage_tokens", (1, design.registers, dim))], ["prefix_tokens.registers"]))
    free, ones, zeros = torch.full((inner,), torch.nan), torch.ones(inner), torch.zeros(inner)
    for i in range(config.depth):
        theirs, ours = f"blocks.{i}", f"transformer.layers.{i}"
        for theirs_scale, ours_scale in (("ls1", "attention_scale"), ("ls2", "mlp_scale")):
            if design.layer_scale is not None:
                rules.append(Rule([Piece(f"{theirs}.{theirs_scale}.gamma", (dim,))], [f"{ours}.{ours_scale}.factor"]))
        if design.qkv_bias:
            bias, name = torch.cat([free, zeros, free]), f"{theirs}.attn.qkv.bias"
            rules.append(Rule([Piece(name, (3 * inner,), fixed=bias)], [f"{ours}.attention.to_qkv.bias"]))
            mask = torch.cat([ones, zeros, ones])
            rules.append(Rule([Piece(f"{name}_mask", (3 * inner,), fixed=mask)], []))
        if design.mlp == "swiglu":
            for last, shape in (("weight", (hidden, dim)), ("bias", (hidden,))):
                pieces = [Piece(f"{theirs}.mlp.{name}.{last}", shape) for name in ("w1", "w2")]
                rules.append(Rule(pieces, [f"{ours}.mlp.into.{last}"]))
    modules = MODULES | {"norm": "norm", "patch_embed.proj": PROJECTION}
    return complete(config, rules, modules | (GATED if design.mlp == "swiglu" else {}))


def config_of(shapes: Shapes, known: Known) -> ViTConfig:
    """Pooled by the class token; there is no head. The norms' epsilon is 1e-5, unless known otherwise.

    Raises:
        BundleError: for a tensor that is missing, and for separate norms of class token and patches.
    """
    if "cls_norm.weight" in shapes:
        raise BundleError("the checkpoint normalizes class token and patches apart; this model has one norm for all")
    dim, channels, *patch = shape_of(shapes, "patch_embed.proj.weight", axes=4)
    dim_head = 4 * shape_of(shapes, "rope_embed.periods", axes=1)[0]
    if not all((dim_head, *patch)):
        raise BundleError("the checkpoint has patches or rotations of no size; is it whole?")
    gated = "blocks.0.mlp.w3.weight" in shapes
    found: dict[str, Any] = {
        "image_size": tuple(IMAGE // side * side for side in patch),
        "patch_size": (patch[0], patch[1]),
        "num_classes": 0,
        "dim": dim,
        "depth": depth_of(shapes, "blocks."),
        "heads": shape_of(shapes, "blocks.0.attn.qkv.weight", axes=2)[0] // 3 // dim_head,
        "dim_head": dim_head,
        "mlp_dim": shape_of(shapes, f"blocks.0.mlp.{'w3' if gated else 'fc2'}.weight", axes=2)[1],
        "channels": channels,
        "block": "serial",
        "qk_norm": False,
        "qkv_bias": "blocks.0.attn.qkv.bias" in shapes,
        "norm_bias": True,
        "norm_eps": 1e-5,
        "mlp": "swiglu" if gated else "gelu",
        "positions": "rope",
        "registers": shape_of(shapes, "storage_tokens", axes=3)[1] if "storage_tokens" in shapes else 0,
        "layer_scale": 1.0 if "blocks.0.ls1.gamma" in shapes else None,
    }
    return config_from(found, known)


def assumed(config: ViTConfig) -> dict[str, Any]:
    """Return what no tensor tells; the rotary periods are in the file."""
    return untold(config, "image_size")
