"""Key mapping for .npz files of big_vision and the original ViT (arXiv 2010.11929), with JAX's kernel layout.

The names of the original, of big_vision and of its files with stacked layers are read; big_vision's are written.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from megavit.config.vit import ViTConfig
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat
from megavit.weights.pretrained.mappings.config_from_shapes import CheckpointFacts, Fields, get_field
from megavit.weights.pretrained.mappings.key_mapping import KeyRule, rule
from megavit.weights.pretrained.mappings.timm_vit import find_prefix_positions

LAYER, OURS = "Transformer/encoderblock_", "transformer.layers.{i}."
ATTENTION = "MultiHeadDotProductAttention_0"


def norm(theirs: str, ours: str) -> tuple[KeyRule, ...]:
    return rule(f"{theirs}/scale: *", f"{ours}.weight"), rule(f"{theirs}/bias: *", f"{ours}.bias")


def linear(theirs: str, ours: str, axes: str) -> tuple[KeyRule, ...]:
    into, out = axes.split()
    return (
        rule(f"{theirs}/kernel: {into} {out} -> {out} {into}", f"{ours}.weight"),
        rule(f"{theirs}/bias: {out}", f"{ours}.bias"),
    )


def projections(attention: str, names: tuple[str, ...], ours: str) -> tuple[KeyRule, ...]:
    """Return the rules of concatenated projections with kernels (dim, head, channel)."""
    return (
        rule([f"{attention}/{name}/kernel: D H K -> H K D" for name in names], f"{ours}.weight"),
        rule([f"{attention}/{name}/bias: H K" for name in names], f"{ours}.bias"),
    )


def attention_out(attention: str, ours: str) -> tuple[KeyRule, ...]:
    """Return the rules of the output projection with kernel (head, channel, dim)."""
    return (
        rule(f"{attention}/out/kernel: H K D -> D H K", f"{ours}.weight"),
        rule(f"{attention}/out/bias: D", f"{ours}.bias"),
    )


POOL, BLOCK = f"MAPHead_0/{ATTENTION}", f"{LAYER}{{i}}"
RULES = (
    rule("embedding/kernel: P Q C D -> D C P Q", "patch_embedding.projection.weight"),
    rule("embedding/bias: D", "patch_embedding.projection.bias"),
    rule("cls: 1 1 D", "prefix_tokens.class_token"),
    rule("pos_embedding: 1 * D", ["prefix_tokens.class_position", "positions.table"]),
    *norm(f"{BLOCK}/LayerNorm_0", f"{OURS}attention_norm"),
    *projections(f"{BLOCK}/{ATTENTION}", ("query", "key", "value"), f"{OURS}attention.to_qkv"),
    *attention_out(f"{BLOCK}/{ATTENTION}", f"{OURS}attention.out"),
    *norm(f"{BLOCK}/LayerNorm_1", f"{OURS}mlp_norm"),
    *linear(f"{BLOCK}/MlpBlock_0/Dense_0", f"{OURS}mlp.into", "D M"),
    *linear(f"{BLOCK}/MlpBlock_0/Dense_1", f"{OURS}mlp.out", "M D"),
    *norm("Transformer/encoder_norm", "norm"),
    rule("MAPHead_0/probe: 1 1 D", "pool.query"),
    *projections(POOL, ("query",), "pool.to_query"),
    *projections(POOL, ("key", "value"), "pool.to_key_value"),
    *attention_out(POOL, "pool.out"),
    *norm("MAPHead_0/LayerNorm_0", "pool.norm"),
    *linear("MAPHead_0/MlpBlock_0/Dense_0", "pool.mlp_into", "D M"),
    *linear("MAPHead_0/MlpBlock_0/Dense_1", "pool.mlp_out", "M D"),
    *linear("head", "mlp_head", "D L"),
)


def split_layers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with arrays of stacked layers split into layers."""
    stacked = LAYER.removesuffix("_") + "/"
    split: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(stacked) and tensor.ndim:
            split |= {f"{LAYER}{i}/{name.removeprefix(stacked)}": layer for i, layer in enumerate(tensor)}
        else:
            split[name] = tensor
    return split


def fields_of(facts: CheckpointFacts) -> Fields:
    """Return the config fields of a checkpoint; the default activation is the tanh GELU, as in JAX."""
    height, width, channels, dim = facts.shape("embedding/kernel", axes=4)
    patch_hw, layer = (height, width), f"{LAYER}0"
    _, heads, dim_head = facts.shape(f"{layer}/{ATTENTION}/query/kernel", axes=3)
    has_class, learned = "cls" in facts, "pos_embedding" in facts
    count = facts.tokens("pos_embedding")
    if not learned:
        facts.require_image_size()
    has_class_position = has_class and learned and find_prefix_positions(facts, count, 1, patch_hw) == "all"
    return {
        "image_size": facts.image_size(count - has_class_position, patch_hw),
        "patch_size": patch_hw,
        "num_classes": facts.shape("head/kernel", axes=2)[1] if "head/kernel" in facts else 0,
        "dim": dim,
        "depth": facts.depth(LAYER),
        "heads": heads,
        "dim_head": dim_head,
        "mlp_dim": facts.shape(f"{layer}/MlpBlock_0/Dense_0/kernel", axes=2)[1],
        "pool": "map" if "MAPHead_0/probe" in facts else "cls" if has_class else "mean",
        "channels": channels,
        "block": "serial",
        "qk_norm": False,
        "qkv_bias": True,
        "norm_bias": True,
        "mlp": "gelu_tanh",
        "positions": "learned" if learned else "sincos",
        "prefix_positions": "class" if has_class_position else "none",
    }


def undetermined(config: ViTConfig) -> dict[str, Any]:
    """Return the fields that no shape determines, including mean pooling; the heads have an axis of their own."""
    names = ("mlp", "norm_eps", *(("pool",) if config.pool == "mean" else ()))
    return {name: get_field(config, name) for name in names}


BIG_VISION = CheckpointFormat(
    name="big_vision",
    signature=("embedding/kernel", "Transformer/encoder_norm/scale"),
    rules=RULES,
    fields=fields_of,
    unsupported={"pre_logits/kernel": "has a head of two layers (pre_logits), but megavit's has one"},
    towers=("params/img/", "opt/target/", "params/", "img/"),
    # The original numbers all modules of a layer consecutively, including dropouts.
    renamed={
        r"^Transformer/(posembed_input/)?pos_embedding$": "pos_embedding",
        rf"^({LAYER}\d+)/LayerNorm_2/": r"\1/LayerNorm_1/",
        rf"^({LAYER}\d+)/MlpBlock_3/": r"\1/MlpBlock_0/",
        rf"^({LAYER}\d+)/MultiHeadDotProductAttention_1/": r"\1/MultiHeadDotProductAttention_0/",
        r"^(probe$|MlpBlock_0/|MultiHeadDotProductAttention_0/|LayerNorm_0/)": r"MAPHead_0/\1",
    },
    normalize=split_layers,
    undetermined=undetermined,
)
