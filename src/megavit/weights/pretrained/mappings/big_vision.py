"""The .npz files of big_vision and of the original ViT (arXiv 2010.11929), as JAX has them: kernels transposed.

Three generations of names are read, and big_vision's newest written: the original's, with positions inside of the
encoder; big_vision's; and its files with all layers in one array, whose first axis is the layer.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.key_mapping import Piece, Rule, Shapes
from megavit.weights.pretrained.mappings.shapes import Known, config_from, field_of, image_of, shape_of, under
from megavit.weights.pretrained.mappings.timm_vit import prefix_positions

TOLD_BY = ("embedding/kernel", "Transformer/encoder_norm/scale")
PREFIXES = ("params/img/", "opt/target/", "params/", "img/")
LAYER = "Transformer/encoderblock_"
# The original numbered all parts of a layer on, dropouts too.
OLD = {
    r"^Transformer/(posembed_input/)?pos_embedding$": "pos_embedding",
    rf"^({LAYER}\d+)/LayerNorm_2/": r"\1/LayerNorm_1/",
    rf"^({LAYER}\d+)/MlpBlock_3/": r"\1/MlpBlock_0/",
    rf"^({LAYER}\d+)/MultiHeadDotProductAttention_1/": r"\1/MultiHeadDotProductAttention_0/",
    r"^(probe$|MlpBlock_0/|MultiHeadDotProductAttention_0/|LayerNorm_0/)": r"MAPHead_0/\1",
}
MATRIX = (1, 0)


def names(found: Iterable[str]) -> dict[str, str]:
    """Of a training checkpoint or of one with a text tower, the image tower's parameters."""
    new = under(found, PREFIXES)
    for pattern, replacement in OLD.items():
        new = {name: re.sub(pattern, replacement, bare) for name, bare in new.items()}
    return new


def tidy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Layers that are together in one array are taken apart."""
    together = LAYER.removesuffix("_") + "/"
    apart: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(together) and tensor.ndim:
            rest = name.removeprefix(together)
            apart |= {f"{LAYER}{i}/{rest}": layer for i, layer in enumerate(tensor)}
        else:
            apart[name] = tensor
    return apart


def table(config: ViTConfig) -> list[Rule]:
    """For weights of the plain design."""
    dim, by_class = config.dim, config.pool == "cls"
    class_position = by_class and config.design.prefix_positions != "none"
    kernel = Piece("embedding/kernel", (*config.patch_hw, config.channels, dim), order=(3, 2, 0, 1))
    rules = [
        Rule([kernel], ["patch_embedding.projection.weight"]),
        Rule([Piece("embedding/bias", (dim,))], ["patch_embedding.projection.bias"]),
        *norm("Transformer/encoder_norm", "norm", dim),
    ]
    if by_class:
        rules.append(Rule([Piece("cls", (1, 1, dim))], ["prefix_tokens.class_token"]))
    if config.design.positions == "learned":
        ours = [*(["prefix_tokens.class_position"] if class_position else []), "positions.table"]
        rules.append(Rule([Piece("pos_embedding", (1, config.num_patches + class_position, dim))], ours))
    for i in range(config.depth):
        theirs, ours = f"{LAYER}{i}", f"transformer.layers.{i}"
        rules += norm(f"{theirs}/LayerNorm_0", f"{ours}.attention_norm", dim)
        attention = f"{theirs}/MultiHeadDotProductAttention_0"
        rules += projections(config, attention, ("query", "key", "value"), f"{ours}.attention.to_qkv")
        rules += output(config, attention, f"{ours}.attention.out")
        rules += norm(f"{theirs}/LayerNorm_1", f"{ours}.mlp_norm", dim)
        rules += linear(f"{theirs}/MlpBlock_0/Dense_0", f"{ours}.mlp.into", dim, config.mlp_dim)
        rules += linear(f"{theirs}/MlpBlock_0/Dense_1", f"{ours}.mlp.out", config.mlp_dim, dim)
    if config.pool == "map":
        attention = "MAPHead_0/MultiHeadDotProductAttention_0"
        rules.append(Rule([Piece("MAPHead_0/probe", (1, 1, dim))], ["pool.query"]))
        rules += projections(config, attention, ("query",), "pool.to_query")
        rules += projections(config, attention, ("key", "value"), "pool.to_key_value")
        rules += output(config, attention, "pool.out")
        rules += norm("MAPHead_0/LayerNorm_0", "pool.norm", dim)
        rules += linear("MAPHead_0/MlpBlock_0/Dense_0", "pool.mlp_into", dim, config.mlp_dim)
        rules += linear("MAPHead_0/MlpBlock_0/Dense_1", "pool.mlp_out", config.mlp_dim, dim)
    return rules + (linear("head", "mlp_head", dim, config.num_classes) if config.num_classes else [])


def norm(theirs: str, ours: str, width: int) -> list[Rule]:
    names = {"scale": "weight", "bias": "bias"}
    return [Rule([Piece(f"{theirs}/{last}", (width,))], [f"{ours}.{name}"]) for last, name in names.items()]


def linear(theirs: str, ours: str, into: int, out: int) -> list[Rule]:
    return [
        Rule([Piece(f"{theirs}/kernel", (into, out), order=MATRIX)], [f"{ours}.weight"]),
        Rule([Piece(f"{theirs}/bias", (out,))], [f"{ours}.bias"]),
    ]


def projections(config: ViTConfig, attention: str, parts: tuple[str, ...], ours: str) -> list[Rule]:
    """Their projections to `parts`, each (dim, head, channel), one after the other."""
    shape = (config.dim, config.heads, config.dim_head)
    kernels = [Piece(f"{attention}/{part}/kernel", shape, order=(1, 2, 0)) for part in parts]
    biases = [Piece(f"{attention}/{part}/bias", shape[1:]) for part in parts]
    return [Rule(kernels, [f"{ours}.weight"]), Rule(biases, [f"{ours}.bias"])]


def output(config: ViTConfig, attention: str, ours: str) -> list[Rule]:
    """Their projection of mixed values, (head, channel, dim)."""
    shape = (config.heads, config.dim_head, config.dim)
    return [
        Rule([Piece(f"{attention}/out/kernel", shape, order=(2, 0, 1))], [f"{ours}.weight"]),
        Rule([Piece(f"{attention}/out/bias", (config.dim,))], [f"{ours}.bias"]),
    ]


def config_of(shapes: Shapes, known: Known) -> ViTConfig:
    """The activation is GELU by tanh, unless known otherwise: what JAX computes where it says GELU.

    Raises:
        BundleError: for a head of two layers, which our model has not; for computed positions, of which a checkpoint
            has no trace, unless the image size is known; and for a tensor that is missing.
    """
    if "pre_logits/kernel" in shapes:
        raise BundleError("the checkpoint has a head of two layers (pre_logits); this model's has one")
    height, width, channels, dim = shape_of(shapes, "embedding/kernel", axes=4)
    patch_hw, layer = (height, width), f"{LAYER}0"
    _, heads, dim_head = shape_of(shapes, f"{layer}/MultiHeadDotProductAttention_0/query/kernel", axes=3)
    by_class, learned = "cls" in shapes, "pos_embedding" in shapes
    count = shape_of(shapes, "pos_embedding", axes=3)[1] if learned else 0
    if not learned and "image_size" not in known:
        raise BundleError(
            "the checkpoint has computed positions and nothing says of what images; say the image size: "
            "megavit convert --image-size"
        )
    placed = by_class and learned and prefix_positions(count, 1, patch_hw, known) == "all"
    found: dict[str, Any] = {
        "image_size": image_of(count - placed, patch_hw, known),
        "patch_size": patch_hw,
        "num_classes": shape_of(shapes, "head/kernel", axes=2)[1] if "head/kernel" in shapes else 0,
        "dim": dim,
        "depth": len({name.split("/")[1] for name in shapes if name.startswith(LAYER)}),
        "heads": heads,
        "dim_head": dim_head,
        "mlp_dim": shape_of(shapes, f"{layer}/MlpBlock_0/Dense_0/kernel", axes=2)[1],
        "pool": "map" if "MAPHead_0/probe" in shapes else "cls" if by_class else "mean",
        "channels": channels,
        "block": "serial",
        "qk_norm": False,
        "qkv_bias": True,
        "norm_bias": True,
        "mlp": "gelu_tanh",
        "positions": "learned" if learned else "sincos",
        "prefix_positions": "class" if placed else "none",
    }
    return config_from(found, known)


def assumed(config: ViTConfig) -> dict[str, Any]:
    """Return what no shape tells: the heads have an axis of their own, but pooling by a mean leaves no trace."""
    names = ("mlp", "norm_eps", *(("pool",) if config.pool == "mean" else ()))
    return {name: field_of(config, name) for name in names}
