"""What the shapes in a checkpoint say about the model, for every peer alike."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from megavit.config.checks import check_integer
from megavit.config.presets import PRESETS
from megavit.config.vit import Design, Size, ViTConfig, pair
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.key_mapping import Shape, Shapes

# What a peer's own config says: names of ViTConfig and of Design, with their values.
Known = Mapping[str, Any]


def config_from(found: Mapping[str, Any], known: Known) -> ViTConfig:
    """The config of what shapes say (`found`) and what the peer's own config says (`known`), which goes first.

    Of an image's sides, as much as is whole patches: what remains at the right and at the bottom is left out by their
    convolutions, as by SigLIP's So400m of 384 pixels in patches of 14.

    Raises:
        ConfigError: when they do not fit together.
    """
    both = {**found, **known}
    both["image_size"] = whole_patches(both["image_size"], both["patch_size"])
    if not both.get("registers") and both.get("prefix_positions") == "all":
        both["prefix_positions"] = "class"  # the same, and what a model has that says nothing of it
    names = {field.name for field in fields(Design)}
    design = Design(**{name: value for name, value in both.items() if name in names})
    sizes = {field.name: both[field.name] for field in fields(ViTConfig) if field.name in both}
    return ViTConfig(**sizes | {"design": design})


def check_said(known: Known, parts: Mapping[str, Sequence[str]]) -> None:
    """Raise a BundleError when settings say other `parts` than a checkpoint's tensors, name -> what it may then be."""
    for name, values in parts.items():
        if name in known and known[name] not in values:
            raise BundleError(
                f"config.json says {name} {known[name]!r}, and the tensors beside it are those of "
                f"{' or '.join(map(repr, values))}: it is another model's"
            )


def final_norm_of(shapes: Shapes) -> str:
    """Return where timm's `norm` or `fc_norm` stands: of the "tokens", or of the "pooled" vector.

    Raises:
        BundleError: when there is none, or both.
    """
    found = [place for name, place in (("norm", "tokens"), ("fc_norm", "pooled")) if f"{name}.weight" in shapes]
    if len(found) != 1:
        how_many = "two norms" if found else "no norm"
        raise BundleError(
            f"the checkpoint has {how_many} after its layers (norm.weight, fc_norm.weight), where megavit's model has "
            "one"
        )
    return found[0]


def field_of(config: ViTConfig, name: str) -> Any:
    """Return the value of a field of `config`, or of its design."""
    return getattr(config, name) if hasattr(config, name) else getattr(config.design, name)


def untold(config: ViTConfig, *more: str) -> dict[str, Any]:
    """Return what no shape tells of a plain Vision Transformer, as `config` has it, and the fields `more`.

    Norms of queries and keys tell the heads, by their width; an MLP with gates has one activation only.
    """
    names = [
        *(() if config.design.qk_norm else ("heads",)),
        *(() if config.design.mlp == "swiglu" else ("mlp",)),
        "norm_eps",
        *more,
    ]
    return {name: field_of(config, name) for name in names}


def under(found: Iterable[str], prefixes: Sequence[str]) -> dict[str, str]:
    """Of the names `found` in a checkpoint, name -> name without prefix: those with the first prefix that any has."""
    found = list(found)
    prefix = next((prefix for prefix in prefixes if any(name.startswith(prefix) for name in found)), "")
    return {name: name.removeprefix(prefix) for name in found if name.startswith(prefix)}


def whole_patches(image_size: Size, patch_size: Size) -> tuple[int, int]:
    """(height, width) of the patches that fit into an image.

    Raises:
        ConfigError: when one of the two is no size.
    """
    (height, width), (patch_height, patch_width) = pair("image_size", image_size), pair("patch_size", patch_size)
    return height // patch_height * patch_height, width // patch_width * patch_width


def shape_of(shapes: Shapes, name: str, axes: int) -> Shape:
    """The shape of the tensor called `name`.

    Raises:
        BundleError: when it is missing, or has not so many `axes`.
    """
    if name not in shapes:
        raise BundleError(
            f"the checkpoint has no {name}, which tells how big the model is; it is another kind of model, or a part "
            "of one"
        )
    if len(shapes[name]) != axes:
        raise BundleError(f"{name} has shape {shapes[name]}, expected one of {axes} axes")
    return shapes[name]


def classes_of(shapes: Shapes, weight: str) -> int:
    """How many classes the head's `weight` (classes, dim) is for; 0 where there is no head.

    Raises:
        BundleError: when it is no matrix.
    """
    return shape_of(shapes, weight, axes=2)[0] if weight in shapes else 0


def depth_of(shapes: Shapes, layers: str) -> int:
    """How many layers there are; `layers` is what their names begin with, such as "blocks."."""
    numbers = {int(found[1]) for name in shapes if (found := re.match(rf"{re.escape(layers)}(\d+)\.", name))}
    return max(numbers, default=-1) + 1


def heads_of(dim: int, depth: int, mlp_dim: int) -> int:
    """No shape tells the heads of plain attention: those of the preset of these sizes, else 64 channels a head."""
    if (dim, depth, mlp_dim) == (1536, 40, 6144):  # SigLIP 2's giant-opt (arXiv 2502.14786)
        return 16
    for row in PRESETS.values():
        if (row.dim, row.depth, row.mlp_dim) == (dim, depth, mlp_dim):
            return row.heads
    return max(1, dim // 64)


def heads_of_dinov3(dim: int) -> int:
    """DINOv3's have 64 channels (arXiv 2508.10104), so that its H+ has other heads than the H of the same sizes."""
    return max(1, dim // (128 if dim == 4096 else 64))


def image_of(patches: int, patch_hw: tuple[int, int], known: Known) -> tuple[int, int]:
    """(height, width) of the images that so many positions are for: as known, else square.

    Raises:
        BundleError: when they are of no square and nothing says which oblong.
        ConfigError: when the known size is none.
    """
    if "image_size" in known:
        return whole_patches(known["image_size"], patch_hw)
    side = math.isqrt(max(patches, 0))
    if side * side != patches or not side:
        raise BundleError(
            f"the checkpoint has positions for {patches} patches, which are no square; say the image size: "
            "megavit convert --image-size HEIGHTxWIDTH"
        )
    return side * patch_hw[0], side * patch_hw[1]


def patch_of(pixels: int, known: Known) -> tuple[tuple[int, int], int]:
    """((height, width), channels) of a patch of so many numbers: as known, else square, and of 3 channels.

    Raises:
        BundleError: when no such patch has so many.
    """
    channels = known.get("channels", 3)
    side = math.isqrt(pixels // channels)
    size = known.get("patch_size", side)
    height, width = (size, size) if isinstance(size, int) else size
    if height * width * channels != pixels:
        raise BundleError(
            f"the checkpoint's patches have {pixels} numbers, which are not {height} × {width} pixels of {channels} "
            "channels; say which they are: megavit convert --patch-size --channels"
        )
    return (height, width), channels


def heads_of_width(inner: int, known: Known) -> tuple[int, int]:
    """(heads, width of one) for queries of `inner` numbers: as known, else 64 channels a head.

    Raises:
        BundleError: when they do not divide.
    """
    if "heads" in known:
        check_integer("heads", known["heads"], minimum=1)
    heads = known.get("heads") or max(1, inner // (known.get("dim_head") or 64))
    dim_head = known.get("dim_head") or max(1, inner // heads)
    if heads * dim_head != inner:
        raise BundleError(
            f"the checkpoint's queries have {inner} numbers, which are not {heads} heads of {dim_head}; say how many: "
            "megavit convert --num-heads"
        )
    return heads, dim_head


def heads_known(found: dict[str, Any], known: Known) -> dict[str, Any]:
    """`found` with heads and the width of one, for attention over the whole width."""
    heads = known["heads"] if "heads" in known else heads_of(found["dim"], found["depth"], found["mlp_dim"])
    check_integer("heads", heads, minimum=1)
    return found | {"heads": heads, "dim_head": known.get("dim_head", found["dim"] // heads)}
