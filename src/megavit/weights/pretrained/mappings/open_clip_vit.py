"""The visual tower of OpenCLIP and of OpenAI's CLIP (arXiv 2103.00020), alone or in a whole checkpoint.

Its answer, the embedding that is compared with a text's, is our logits: a head without bias. The text tower is left
out.
"""

from collections.abc import Iterable
from typing import Any

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.key_mapping import Piece, Rule, Shapes, complete
from megavit.weights.pretrained.mappings.shapes import (
    Known,
    config_from,
    depth_of,
    heads_known,
    image_of,
    shape_of,
    under,
    untold,
)

TOLD_BY = ("class_embedding", "positional_embedding", "conv1.weight", "transformer.resblocks.0.attn.in_proj_weight")
LAYER = "transformer.resblocks.{i}"
MODULES = {
    "ln_pre": "pre_norm",
    LAYER + ".ln_1": "transformer.layers.{i}.attention_norm",
    LAYER + ".attn.out_proj": "transformer.layers.{i}.attention.out",
    LAYER + ".ln_2": "transformer.layers.{i}.mlp_norm",
    LAYER + ".mlp.c_fc": "transformer.layers.{i}.mlp.into",
    LAYER + ".mlp.c_proj": "transformer.layers.{i}.mlp.out",
    "ln_post": "norm",
}


def names(found: Iterable[str]) -> dict[str, str]:
    """Of a whole checkpoint, the visual tower alone."""
    return under(found, ("module.visual.", "visual."))


def table(config: ViTConfig) -> list[Rule]:
    """For weights of a serial design. A class token that is not pooled by is a register of ours."""
    dim, classes, tokens = config.dim, config.num_classes, "prefix_tokens."
    by_class = config.pool == "cls"
    token = tokens + ("class_token" if by_class else "registers")
    position = tokens + ("class_position" if by_class else "register_positions")
    rules = [
        Rule(
            [Piece("conv1.weight", (dim, config.channels, *config.patch_hw))],
            ["patch_embedding.projection.weight"],
        ),
        Rule([Piece(None, (dim,))], ["patch_embedding.projection.bias"]),
        Rule([Piece("class_embedding", (dim,))], [token]),
        Rule([Piece("positional_embedding", (config.num_patches + 1, dim))], [position, "positions.table"]),
    ]
    if classes:
        rules.append(Rule([Piece("proj", (dim, classes), order=(1, 0))], ["mlp_head.weight"]))
        rules.append(Rule([Piece(None, (classes,))], ["mlp_head.bias"]))
    for i in range(config.depth):
        theirs, ours = LAYER.format(i=i), f"transformer.layers.{i}."
        rules.append(Rule([Piece(theirs + ".attn.in_proj_weight", (3 * dim, dim))], [ours + "attention.to_qkv.weight"]))
        rules.append(Rule([Piece(theirs + ".attn.in_proj_bias", (3 * dim,))], [ours + "attention.to_qkv.bias"]))
        for scale, name in (("ls_1", "attention_scale"), ("ls_2", "mlp_scale")):
            if config.design.layer_scale is not None:
                rules.append(Rule([Piece(f"{theirs}.{scale}.gamma", (dim,))], [f"{ours}{name}.factor"]))
    return complete(config, rules, MODULES)


def config_of(shapes: Shapes, known: Known) -> ViTConfig:
    """The norms' epsilon is 1e-5, unless known otherwise, and the activation the exact GELU.

    No shape tells that a model was trained with `quick_gelu`, as OpenAI's were: its settings do, or the caller.

    Raises:
        BundleError: for an attentional pooler, which our model has not.
    """
    if any(name.startswith("attn_pool.") for name in shapes):
        raise BundleError("the checkpoint pools by OpenCLIP's attentional pooler, which this model has not")
    dim, channels, *patch = shape_of(shapes, "conv1.weight", axes=4)
    patch_hw = (patch[0], patch[1])
    mean = known.get("pool", "cls") == "mean"
    found: dict[str, Any] = {
        "image_size": image_of(shape_of(shapes, "positional_embedding", axes=2)[0] - 1, patch_hw, known),
        "patch_size": patch_hw,
        "num_classes": shape_of(shapes, "proj", axes=2)[1] if "proj" in shapes else 0,
        "dim": dim,
        "depth": depth_of(shapes, "transformer.resblocks."),
        "mlp_dim": shape_of(shapes, "transformer.resblocks.0.mlp.c_fc.weight", axes=2)[0],
        "channels": channels,
        "block": "serial",
        "qk_norm": False,
        "qkv_bias": True,
        "norm_bias": True,
        "norm_eps": 1e-5,
        "pre_norm": "ln_pre.weight" in shapes,
        "registers": int(mean),
        "prefix_positions": "all",
        "layer_scale": 1.0 if "transformer.resblocks.0.ls_1.gamma" in shapes else None,
    }
    return config_from(heads_known(found, known), known)


def known(settings: dict[str, Any]) -> Known:
    """What a model's settings say (`open_clip_config.json`, or one of OpenCLIP's `model_configs`).

    Raises:
        BundleError: for a part that our model has not, by its name there.
    """
    model = settings.get("model_cfg", settings)
    vision = model.get("vision_cfg", {})
    for name in ("timm_model_name", "attentional_pool", "block_type", "qk_norm", "scaled_cosine_attn", "scale_heads"):
        if vision.get(name) not in (None, False, "default"):
            raise BundleError(f"the model's vision_cfg has {name} {vision[name]!r}, which this layout has not")
    activation = vision.get("act_kwargs") or {}
    tanh = activation.get("approximate") == "tanh"
    facts: dict[str, Any] = {
        "image_size": vision.get("image_size", 224),
        "heads": vision.get("width", 768) // vision.get("head_width", 64),
        "mlp": "quick_gelu" if model.get("quick_gelu") else "gelu_tanh" if tanh else "gelu",
        "norm_eps": (vision.get("norm_kwargs") or {}).get("eps", 1e-5),
        "final_norm": "pooled" if vision.get("final_ln_after_pool") else "tokens",
        "pool": {"tok": "cls", "avg": "mean"}.get(vision.get("pool_type", "tok")),
    }
    if facts["pool"] is None:
        raise BundleError(f"the model's vision_cfg has pool_type {vision['pool_type']!r}, which this model has not")
    return facts


def assumed(config: ViTConfig) -> dict[str, Any]:
    """Return what no shape tells: beside the usual the pooling, and of a mean whether the norm comes before it."""
    return untold(config, "pool", *(("final_norm",) if config.pool == "mean" else ()))
