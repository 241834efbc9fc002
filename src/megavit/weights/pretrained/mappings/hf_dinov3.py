"""Hugging Face's DINOv3 (arXiv 2508.10104)."""

from collections.abc import Iterable
from typing import Any

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.model.pos_embed import RotaryPositions
from megavit.weights.pretrained.mappings.hugging_face import (
    Settings,
    bare_names,
    defaults_of,
    known_from,
    query_key_value,
    require,
)
from megavit.weights.pretrained.mappings.key_mapping import Piece, Rule, Shapes, complete
from megavit.weights.pretrained.mappings.shapes import (
    Known,
    config_from,
    depth_of,
    heads_known,
    heads_of_dinov3,
    shape_of,
    untold,
)

TOLD_BY = ("embeddings.patch_embeddings.weight", "layer.0.layer_scale1.lambda1")
RENAMED = {r"^model\.layer\.": "layer."}
LEFT_OUT = (r"embeddings\.mask_token$", r"rope_embeddings\.")  # for pre-training; what the model computes
MODULES = {
    "embeddings.patch_embeddings": "patch_embedding.projection",
    "layer.{i}.norm1": "transformer.layers.{i}.attention_norm",
    "layer.{i}.attention.o_proj": "transformer.layers.{i}.attention.out",
    "layer.{i}.norm2": "transformer.layers.{i}.mlp_norm",
    "layer.{i}.mlp.up_proj": "transformer.layers.{i}.mlp.into",
    "layer.{i}.mlp.down_proj": "transformer.layers.{i}.mlp.out",
    "norm": "norm",
}
DEFAULTS = {
    "num_attention_heads": 6,
    "num_hidden_layers": 12,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "image_size": 224,
}
TYPES = {"dinov3_vit": DEFAULTS}
NEEDED = {"rope_theta": RotaryPositions.base, "key_bias": False, "proj_bias": True, "mlp_bias": True}


def names(found: Iterable[str]) -> dict[str, str]:
    """Of the tensors of a checkpoint, those of the model: name -> name in the table."""
    return bare_names(found, (), RENAMED, LEFT_OUT)


def known(settings: Settings) -> Known:
    """From their config.json.

    Raises:
        BundleError: for what the model cannot be.
    """
    defaults = defaults_of(settings, TYPES)
    require(settings, NEEDED)
    if settings.get("query_bias", True) != settings.get("value_bias", True):
        raise BundleError("config.json has a bias for queries or for values alone; megavit's model has both or none")
    rotary = {"rotary base": NEEDED["rope_theta"]}
    if not settings.get("use_gated_mlp"):
        return rotary | known_from(settings, defaults)
    if settings.get("hidden_act") != "silu":
        raise BundleError(
            f"config.json gates the MLP by {settings.get('hidden_act', 'gelu')!r}; megavit's model only by 'silu'"
        )
    return rotary | known_from({**settings, "hidden_act": "gelu"}, defaults) | {"mlp": "swiglu"}


def table(config: ViTConfig) -> list[Rule]:
    """For weights of a serial design with rotary positions and no classifier; theirs have no bias of keys."""
    dim, hidden, registers = config.dim, config.mlp_dim, config.design.registers
    kernel = Piece("embeddings.patch_embeddings.weight", (dim, config.channels, *config.patch_hw))
    rules = [
        *query_key_value(config, "layer.{i}.attention", ("q_proj", "k_proj", "v_proj"), biases=(True, False, True)),
        Rule([kernel], ["patch_embedding.projection.weight"]),
        Rule([Piece("embeddings.cls_token", (1, 1, dim))], ["prefix_tokens.class_token"]),
        Rule(
            [Piece("embeddings.register_tokens", (1, registers, dim))],
            ["prefix_tokens.registers"] if registers else [],
        ),
    ]
    for i in range(config.depth):
        theirs, ours = f"layer.{i}", f"transformer.layers.{i}"
        for theirs_scale, ours_scale in (("layer_scale1", "attention_scale"), ("layer_scale2", "mlp_scale")):
            rules.append(Rule([Piece(f"{theirs}.{theirs_scale}.lambda1", (dim,))], [f"{ours}.{ours_scale}.factor"]))
        if config.design.mlp == "swiglu":
            for last, shape in (("weight", (hidden, dim)), ("bias", (hidden,))):
                pieces = [Piece(f"{theirs}.mlp.{name}.{last}", shape) for name in ("gate_proj", "up_proj")]
                rules.append(Rule(pieces, [f"{ours}.mlp.into.{last}"]))
    return complete(config, rules, MODULES)


def config_of(shapes: Shapes, known: Known) -> ViTConfig:
    """Of shapes by the names of the table.

    Raises:
        BundleError: for a tensor that is missing.
    """
    dim, channels, *patch = shape_of(shapes, "embeddings.patch_embeddings.weight", axes=4)
    found: dict[str, Any] = {
        "image_size": DEFAULTS["image_size"],
        "patch_size": (patch[0], patch[1]),
        "num_classes": 0,
        "dim": dim,
        "depth": depth_of(shapes, "layer."),
        "mlp_dim": shape_of(shapes, "layer.0.mlp.down_proj.weight", axes=2)[1],
        "channels": channels,
        "block": "serial",
        "qk_norm": False,
        "qkv_bias": "layer.0.attention.q_proj.bias" in shapes,
        "norm_bias": True,
        "norm_eps": 1e-5,
        "mlp": "swiglu" if "layer.0.mlp.gate_proj.weight" in shapes else "gelu",
        "positions": "rope",
        "registers": shape_of(shapes, "embeddings.register_tokens", axes=3)[1],
        "layer_scale": 1.0,
    }
    known = {"heads": heads_of_dinov3(dim), **known}
    return config_from(heads_known(found, known), known)


def assumed(config: ViTConfig) -> dict[str, Any]:
    """Return what no shape tells: beside the usual the size of images and the rotary base."""
    return untold(config, "image_size") | {"rotary base": RotaryPositions.base}
