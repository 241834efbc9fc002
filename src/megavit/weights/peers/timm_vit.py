"""timm's `VisionTransformer` (`vit_*`, `deit*`, `vit_*_siglip_*`, `vit_*_dinov2`, ...), and DINOv2's own files."""

import math
from typing import Any

from megavit.config.vit import PrefixPositions, ViTConfig
from megavit.errors import BundleError
from megavit.weights.keys import Piece, Rule, Shapes, complete
from megavit.weights.peers.shapes import Known, config_from, depth_of, heads_known, image_of, shape_of, untold

TOLD_BY = ("patch_embed.proj.weight", "pos_embed", "blocks.0.attn.qkv.weight")
PROJECTION = "patch_embedding.projection"
MODULES = {
    "norm_pre": "pre_norm",
    "blocks.{i}.norm1": "transformer.layers.{i}.attention_norm",
    "blocks.{i}.attn.qkv": "transformer.layers.{i}.attention.to_qkv",
    "blocks.{i}.attn.q_norm": "transformer.layers.{i}.attention.query_norm",
    "blocks.{i}.attn.k_norm": "transformer.layers.{i}.attention.key_norm",
    "blocks.{i}.attn.proj": "transformer.layers.{i}.attention.out",
    "blocks.{i}.norm2": "transformer.layers.{i}.mlp_norm",
    "blocks.{i}.mlp.fc1": "transformer.layers.{i}.mlp.into",
    "blocks.{i}.mlp.fc2": "transformer.layers.{i}.mlp.out",
    "attn_pool.q": "pool.to_query",
    "attn_pool.kv": "pool.to_key_value",
    "attn_pool.proj": "pool.out",
    "attn_pool.norm": "pool.norm",
    "attn_pool.mlp.fc1": "pool.mlp_into",
    "attn_pool.mlp.fc2": "pool.mlp_out",
    "head": "mlp_head",
}

# What a Perception Encoder (arXiv 2504.13181) has, and no other model that timm publishes; and its widths.
PERCEPTION = {"cls_token", "norm_pre.weight", "attn_pool.latent"}
PERCEPTION_WIDTHS = (192, 384, 768, 1024, 1536)


def table(config: ViTConfig) -> list[Rule]:
    """For weights of a serial design."""
    design, dim = config.design, config.dim
    modules = MODULES | {"norm" if design.final_norm == "tokens" else "fc_norm": "norm"}
    rules = [
        Rule([Piece("patch_embed.proj.weight", (dim, config.channels, *config.patch_hw))], [PROJECTION + ".weight"]),
        Rule([Piece(None if design.pre_norm else "patch_embed.proj.bias", (dim,))], [PROJECTION + ".bias"]),
        *prefix(config),
        *positions(config),
    ]
    for i in range(config.depth if design.layer_scale is not None else 0):
        for theirs, ours in (("ls1", "attention_scale"), ("ls2", "mlp_scale")):
            rules.append(Rule([Piece(f"blocks.{i}.{theirs}.gamma", (dim,))], [f"transformer.layers.{i}.{ours}.factor"]))
    if config.pool == "map":
        rules.append(Rule([Piece("attn_pool.latent", (1, 1, dim))], ["pool.query"]))
    return complete(config, rules, modules)


def prefix(config: ViTConfig) -> list[Rule]:
    """A class token that is not pooled by is the first register of ours.

    Nothing in the config says whether there is such a token, so a file may have it or not. What is written has it
    where these tokens have positions.
    """
    dim, registers = config.dim, config.design.registers
    if config.pool == "cls":
        rules = [Rule([Piece("cls_token", (1, 1, dim))], ["prefix_tokens.class_token"])]
        if registers:
            rules.append(Rule([Piece("reg_token", (1, registers, dim))], ["prefix_tokens.registers"]))
        return rules
    if not registers:
        return []
    with_class = [Piece("cls_token", (1, 1, dim))]
    if registers > 1:
        with_class.append(Piece("reg_token", (1, registers - 1, dim)))
    without = [Piece("reg_token", (1, registers, dim))]
    class_first = config.design.positions == "rope" or config.design.prefix_positions == "all"
    ours = ["prefix_tokens.registers"]
    return [Rule(with_class, ours, instead=without) if class_first else Rule(without, ours, instead=with_class)]


def positions(config: ViTConfig) -> list[Rule]:
    """Those of the tokens before the patches, if they have any, then those of the patches."""
    design, count, ours = config.design, config.num_patches, ["positions.table"]
    if design.registers and design.prefix_positions == "all":
        ours.insert(0, "prefix_tokens.register_positions")
        count += design.registers
    if config.pool == "cls" and design.prefix_positions != "none":
        ours.insert(0, "prefix_tokens.class_position")
        count += 1
    return [Rule([Piece("pos_embed", (1, count, config.dim))], ours)]


def prefix_positions(count: int, prefix_tokens: int, patch_hw: tuple[int, int], known: Known) -> PrefixPositions:
    """Whether the tokens before the patches have positions too, by how many there are."""
    if "image_size" in known:
        height, width = image_of(0, patch_hw, known)
        only_patches = count == (height // patch_hw[0]) * (width // patch_hw[1])
    else:
        only_patches = math.isqrt(count) ** 2 == count
    return "none" if only_patches and prefix_tokens else "all"


def config_of(shapes: Shapes, known: Known) -> ViTConfig:
    """Pooled by the class token, if there is one, with GELU and the usual heads, unless `known` says otherwise.

    Shapes do not tell those: `timm_names.known` does.

    Raises:
        BundleError: for a tensor that is missing, for two classifiers, for a Perception Encoder, and for norms that
            could be of either kind.
    """
    if "head_dist.weight" in shapes:
        raise BundleError(
            "the checkpoint is a distilled DeiT with two classifiers, whose answers are averaged; megavit's model has "
            "one. Take one that is not distilled"
        )
    if shapes.keys() >= PERCEPTION and shapes["cls_token"][-1] in PERCEPTION_WIDTHS and not known:
        raise BundleError(
            "the checkpoint looks like a Perception Encoder, whose positions are learned and rotary, and whose heads "
            "of the pooling are not those of the layers; megavit has no such model. If it is none, put its "
            "config.json beside it"
        )
    if "blocks.0.norm1.bias" not in shapes and "norm" not in known:
        raise BundleError('the checkpoint has norms without bias, "layer" or "rms"; say which norm')
    dim, channels, *patch = shape_of(shapes, "patch_embed.proj.weight", axes=4)
    patch_hw = (patch[0], patch[1])
    depth = depth_of(shapes, "blocks.")
    mlp_dim = shape_of(shapes, "blocks.0.mlp.fc2.weight", axes=2)[1]
    gated = shape_of(shapes, "blocks.0.mlp.fc1.weight", axes=2)[0] != mlp_dim
    has_class = "cls_token" in shapes
    registers = shape_of(shapes, "reg_token", axes=3)[1] if "reg_token" in shapes else 0
    pool = known.get("pool") or ("map" if "attn_pool.latent" in shapes else "cls" if has_class else "mean")
    prefix_tokens, pre_norm = has_class + registers, "norm_pre.weight" in shapes
    count = shape_of(shapes, "pos_embed", axes=3)[1]
    placed = prefix_positions(count, prefix_tokens, patch_hw, known)
    patches = count - (prefix_tokens if placed == "all" else 0)
    found: dict[str, Any] = {
        "image_size": image_of(patches, patch_hw, known),
        "patch_size": patch_hw,
        "num_classes": shape_of(shapes, "head.weight", axes=2)[0] if "head.weight" in shapes else 0,
        "dim": dim,
        "depth": depth,
        "mlp_dim": mlp_dim,
        "pool": pool,
        "channels": channels,
        "block": "serial",
        "qk_norm": "blocks.0.attn.q_norm.weight" in shapes,
        "qkv_bias": "blocks.0.attn.qkv.bias" in shapes,
        "norm_bias": "blocks.0.norm1.bias" in shapes,
        "norm_eps": 1e-5 if pre_norm else 1e-6,  # CLIP's
        "pre_norm": pre_norm,
        "final_norm": "pooled" if "fc_norm.weight" in shapes else "tokens",
        "mlp": "swiglu" if gated else "gelu",
        "prefix_positions": placed,
        "registers": prefix_tokens - (pool == "cls"),
        "layer_scale": 1.0 if "blocks.0.ls1.gamma" in shapes else None,
    }
    return config_from(heads_known(found, known), known)


def assumed(config: ViTConfig) -> dict[str, Any]:
    """Return what no shape tells; among it the pooling, but where it has tensors of its own."""
    return untold(config, *(() if config.pool == "map" else ("pool",)))
