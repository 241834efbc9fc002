"""timm's `VisionTransformer` (`vit_*`, `deit*`, `vit_*_siglip_*`, `vit_*_dinov2`, ...), and DINOv2's own files."""

import math
from typing import Any

from megavit.config.vit import PrefixPositions, ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.key_mapping import Piece, Rule, Shapes, complete
from megavit.weights.pretrained.mappings.shapes import (
    Known,
    check_said,
    config_from,
    depth_of,
    final_norm_of,
    heads_known,
    image_of,
    shape_of,
    untold,
)

TOLD_BY = ("patch_embed.proj.weight", "pos_embed", "blocks.0.attn.qkv.weight")
PROJECTION = "patch_embedding.projection"
MODULES = {
    "norm_pre": "pre_norm",
    "blocks.{i}.norm1": "transformer.layers.{i}.attention_norm",
    "blocks.{i}.attn.qkv": "transformer.layers.{i}.attention.to_qkv",
    "blocks.{i}.attn.q_norm": "transformer.layers.{i}.attention.query_norm",
    "blocks.{i}.attn.k_norm": "transformer.layers.{i}.attention.key_norm",
    "blocks.{i}.attn.norm": "transformer.layers.{i}.attention.out_norm",
    "blocks.{i}.attn.proj": "transformer.layers.{i}.attention.out",
    "blocks.{i}.norm2": "transformer.layers.{i}.mlp_norm",
    "blocks.{i}.mlp.fc1": "transformer.layers.{i}.mlp.into",
    "blocks.{i}.mlp.norm": "transformer.layers.{i}.mlp.out_norm",
    "blocks.{i}.mlp.fc2": "transformer.layers.{i}.mlp.out",
    "attn_pool.q": "pool.to_query",
    "attn_pool.kv": "pool.to_key_value",
    "attn_pool.proj": "pool.out",
    "attn_pool.norm": "pool.norm",
    "attn_pool.mlp.fc1": "pool.mlp_into",
    "attn_pool.mlp.fc2": "pool.mlp_out",
    "head": "mlp_head",
}

# Models without these may have norms behind their branches.
BEHIND = {"cls_token", "reg_token", "norm_pre.weight", "blocks.0.attn.qkv.bias", "blocks.0.ls1.gamma"}


def table(config: ViTConfig) -> list[Rule]:
    """For weights of a serial design."""
    design, dim = config.design, config.dim
    rules = outside(config)
    for i in range(config.depth if design.layer_scale is not None else 0):
        for theirs, ours in (("ls1", "attention_scale"), ("ls2", "mlp_scale")):
            rules.append(Rule([Piece(f"blocks.{i}.{theirs}.gamma", (dim,))], [f"transformer.layers.{i}.{ours}.factor"]))
    return complete(config, rules, MODULES | last_norm(config))


def last_norm(config: ViTConfig) -> dict[str, str]:
    """Return the name of the norm after the layers, theirs to ours."""
    return {"norm" if config.design.final_norm == "tokens" else "fc_norm": "norm"}


def outside(config: ViTConfig) -> list[Rule]:
    """Return the rules of what is outside the blocks, and has other names or shapes than ours."""
    rules = [*patches(config), *prefix(config), *positions(config)]
    if config.pool == "map":
        rules.append(Rule([Piece("attn_pool.latent", (1, 1, config.dim))], ["pool.query"]))
    return rules


def patches(config: ViTConfig) -> list[Rule]:
    """Return the rules of the patches' projection, which has no bias where a norm follows."""
    kernel = Piece("patch_embed.proj.weight", (config.dim, config.channels, *config.patch_hw))
    bias = Piece(None if config.design.pre_norm else "patch_embed.proj.bias", (config.dim,))
    return [Rule([kernel], [PROJECTION + ".weight"]), Rule([bias], [PROJECTION + ".bias"])]


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
    form, placed = config.design.positions, config.design.prefix_positions
    class_first = form == "rope" or (form != "rope_grid" and placed == "all")
    ours = ["prefix_tokens.registers"]
    return [Rule(with_class, ours, instead=without) if class_first else Rule(without, ours, instead=with_class)]


def positions(config: ViTConfig) -> list[Rule]:
    """Those of the tokens before the patches, if they have any, then those of the patches."""
    design, count = config.design, config.num_patches
    ours = ["positions.learned.table" if design.rotary else "positions.table"]
    if design.registers and design.prefix_positions == "all":
        ours.insert(0, "prefix_tokens.register_positions")
        count += design.registers
    if config.pool == "cls" and design.prefix_positions != "none":
        ours.insert(0, "prefix_tokens.class_position")
        count += 1
    return [Rule([Piece("pos_embed", (1, count, config.dim))], ours)]


def prefix_positions(count: int, prefix_tokens: int, patch_hw: tuple[int, int], known: Known) -> PrefixPositions:
    """Return whether the tokens before the patches have positions too, by how many there are.

    Raises:
        BundleError: when there may be as many either way.
    """
    if not prefix_tokens:
        return "all"
    if "image_size" in known:
        height, width = image_of(0, patch_hw, known)
        return "none" if count == (height // patch_hw[0]) * (width // patch_hw[1]) else "all"
    only_patches, with_prefix = (n > 0 and math.isqrt(n) ** 2 == n for n in (count, count - prefix_tokens))
    if only_patches and with_prefix:
        raise BundleError(
            f"the checkpoint has {count} positions, which may be of as many patches or of {prefix_tokens} tokens more; "
            "say the image size: megavit convert --image-size HEIGHTxWIDTH"
        )
    return "none" if only_patches else "all"


def config_of(shapes: Shapes, known: Known) -> ViTConfig:
    """Return the config of a model of serial blocks; what no shape tells is as usual, unless `known` says otherwise.

    Raises:
        BundleError: for a tensor that is missing, for two classifiers, and for tensors that are those of models of
            several kinds.
    """
    if "head_dist.weight" in shapes:
        raise BundleError(
            "the checkpoint is a distilled DeiT with two classifiers, whose answers are averaged; megavit's model has "
            "one. Take one that is not distilled"
        )
    if "fc_norm.weight" in shapes and not shapes.keys() & BEHIND and "block" not in known:
        raise BundleError(
            "the checkpoint may be of blocks with norms behind their branches (timm's vit_*_rpn_*), which megavit has "
            "not, or before them: its tensors do not tell. Put its config.json beside it"
        )
    check_said(known, {"block": ["serial"], "positions": ["learned"]})
    hidden = shape_of(shapes, "blocks.0.mlp.fc2.weight", axes=2)[1]
    gated = shape_of(shapes, "blocks.0.mlp.fc1.weight", axes=2)[0] != hidden
    found = found_outside(shapes, known) | {
        "mlp_dim": hidden,
        "block": "serial",
        "qk_norm": "blocks.0.attn.q_norm.weight" in shapes,
        "qkv_bias": "blocks.0.attn.qkv.bias" in shapes,
        "norm_bias": norm_bias(shapes, "blocks.0.norm1", known),
        "mlp": "swiglu" if gated else "gelu",
        "attention_out_norm": "blocks.0.attn.norm.weight" in shapes,
        "mlp_out_norm": "blocks.0.mlp.norm.weight" in shapes,
        "layer_scale": 1.0 if "blocks.0.ls1.gamma" in shapes else None,
    }
    return config_from(heads_known(found, known), known)


def norm_bias(shapes: Shapes, norm: str, known: Known) -> bool:
    """Return whether a norm has a bias.

    Raises:
        BundleError: when it has none and nothing says of which kind it is then.
    """
    if f"{norm}.bias" not in shapes and "norm" not in known:
        raise BundleError(
            'the checkpoint has norms without bias, which may be "layer" or "rms": say which with megavit convert '
            "--norm, or put its config.json beside it"
        )
    return f"{norm}.bias" in shapes


def found_outside(shapes: Shapes, known: Known) -> dict[str, Any]:
    """Return what the shapes of the tensors outside the blocks say, in names of `ViTConfig` and `Design`.

    Pooled by the mean where the norm comes after pooling, as timm's own choice is, else by the class token if there
    is one.
    """
    dim, channels, *patch = shape_of(shapes, "patch_embed.proj.weight", axes=4)
    patch_hw = (patch[0], patch[1])
    final_norm = final_norm_of(shapes)
    has_class = "cls_token" in shapes
    registers = shape_of(shapes, "reg_token", axes=3)[1] if "reg_token" in shapes else 0
    by_class = has_class and final_norm == "tokens"
    pool = known.get("pool") or ("map" if "attn_pool.latent" in shapes else "cls" if by_class else "mean")
    prefix_tokens, pre_norm = has_class + registers, "norm_pre.weight" in shapes
    count = shape_of(shapes, "pos_embed", axes=3)[1]
    placed = prefix_positions(count, prefix_tokens, patch_hw, known)
    return {
        "image_size": image_of(count - (prefix_tokens if placed == "all" else 0), patch_hw, known),
        "patch_size": patch_hw,
        "num_classes": shape_of(shapes, "head.weight", axes=2)[0] if "head.weight" in shapes else 0,
        "dim": dim,
        "depth": depth_of(shapes, "blocks."),
        "pool": pool,
        "channels": channels,
        "norm_eps": 1e-5 if pre_norm else 1e-6,  # CLIP's
        "pre_norm": pre_norm,
        "final_norm": final_norm,
        "prefix_positions": placed,
        "registers": prefix_tokens - (pool == "cls"),
    }


def assumed(config: ViTConfig) -> dict[str, Any]:
    """Return what no shape tells, among it the pooling; where that has tensors of its own, what it sees."""
    if config.pool == "map" and config.design.registers:
        return untold(config) | {"attention pooling over": "patches alone"}
    return untold(config, *(() if config.pool == "map" else ("pool",)))
