"""The files of DINOv2 itself (`facebookresearch/dinov2`; arXiv 2304.07193), with and without registers.

At other image sizes its positions are resampled without antialiasing and by a grid that is a little off; ours are not,
so that answers agree at the size of the positions alone (518 pixels).
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from megavit.config.vit import ViTConfig
from megavit.weights.pretrained.mappings import timm_vit
from megavit.weights.pretrained.mappings.key_mapping import Piece, Rule, Shapes
from megavit.weights.pretrained.mappings.shapes import (
    Known,
    config_from,
    depth_of,
    heads_known,
    image_of,
    shape_of,
    under,
)

TOLD_BY = ("mask_token", "cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight")
GATED = {"mlp.fc1": "mlp.w12", "mlp.fc2": "mlp.w3"}  # timm's to theirs


def names(found: Iterable[str]) -> dict[str, str]:
    """Of a training checkpoint, the teacher's backbone; layers in chunks (`blocks.0.11.`) are numbered on through."""
    bare = under(found, ("teacher.backbone.", "backbone."))
    return {name: re.sub(r"^blocks\.\d+\.(\d+\.)", r"blocks.\1", without) for name, without in bare.items()}


def table(config: ViTConfig) -> list[Rule]:
    """For weights of a serial design whose class token alone has a position, of timm's names but for a few.

    The mask token is for pre-training and no part of our model: it is written as zeros.
    """
    renamed = {"reg_token": "register_tokens"} | (GATED if config.design.mlp == "swiglu" else {})

    def own(piece: Piece) -> Piece:
        name = piece.name or ""
        for timms, theirs in renamed.items():
            name = name.replace(timms, theirs)
        return replace(piece, name=name or None)

    rules = [Rule([own(piece) for piece in rule.theirs], rule.ours) for rule in timm_vit.table(config)]
    return [*rules, Rule([Piece("mask_token", (1, config.dim))], [])]


def config_of(shapes: Shapes, known: Known) -> ViTConfig:
    """Pooled by the class token; there is no head.

    Raises:
        BundleError: for a tensor that is missing.
    """
    dim, channels, *patch = shape_of(shapes, "patch_embed.proj.weight", axes=4)
    patch_hw = (patch[0], patch[1])
    gated = "blocks.0.mlp.w12.weight" in shapes
    registers = shape_of(shapes, "register_tokens", axes=3)[1] if "register_tokens" in shapes else 0
    found: dict[str, Any] = {
        "image_size": image_of(shape_of(shapes, "pos_embed", axes=3)[1] - 1, patch_hw, known),
        "patch_size": patch_hw,
        "num_classes": 0,
        "dim": dim,
        "depth": depth_of(shapes, "blocks."),
        "mlp_dim": shape_of(shapes, f"blocks.0.mlp.{'w3' if gated else 'fc2'}.weight", axes=2)[1],
        "channels": channels,
        "block": "serial",
        "qk_norm": False,
        "qkv_bias": "blocks.0.attn.qkv.bias" in shapes,
        "norm_bias": True,
        "mlp": "swiglu" if gated else "gelu",
        "prefix_positions": "class",
        "registers": registers,
        "layer_scale": 1.0 if "blocks.0.ls1.gamma" in shapes else None,
    }
    return config_from(heads_known(found, known), known)
