"""The config of a model from the shapes of a checkpoint's tensors, for every library alike."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from megavit.config.checks import check_whole
from megavit.config.presets import PRESETS
from megavit.config.vit import Design, Size, ViTConfig, pair
from megavit.errors import BundleError
from megavit.model.statistics import Shape, Shapes

Overrides = Mapping[str, Any]
"""Fields of `ViTConfig` and `Design` that settings files or the user give; they go before what shapes suggest."""


def config_from(found: Mapping[str, Any], overrides: Overrides) -> ViTConfig:
    """Return the config of what the shapes say, `found`, and of `overrides`, which go first.

    Image sides are cut to whole patches: the remainder at the right and at the bottom is dropped by their
    convolutions, as by SigLIP's So400m of 384 pixels in patches of 14.

    Raises:
        ConfigError: when they do not fit together.
    """
    if "heads" not in found:
        found = _with_heads(found, overrides)
    both = {**found, **overrides}
    both["image_size"] = whole_patches(both["image_size"], both["patch_size"])
    if not both.get("registers") and both.get("prefix_positions") == "all":
        both["prefix_positions"] = "class"  # the same without registers, and the default
    names = {field.name for field in fields(Design)}
    design = Design(**{name: value for name, value in both.items() if name in names})
    sizes = {field.name: both[field.name] for field in fields(ViTConfig) if field.name in both}
    return ViTConfig(**sizes | {"design": design})


def plain_fields(shapes: Shapes, *, kernel: str, layers: str, mlp_out: str, head: str = "") -> dict[str, Any]:
    """Return the fields of a plain Vision Transformer that its shapes determine, without heads and image size.

    Args:
        shapes: of the checkpoint's tensors.
        kernel: the weight of the patch projection, a convolution's (D, C, height, width).
        layers: what the names of layers begin with, up to the number.
        mlp_out: the weight (D, M) of the first layer's last projection.
        head: the weight (classes, D) of the classifier, if there is one.

    Raises:
        BundleError: for a tensor that is missing, or has another number of axes.
    """
    dim, channels, height, width = shape_of(shapes, kernel, axes=4)
    return {
        "patch_size": (height, width),
        "channels": channels,
        "num_classes": num_classes(shapes, head),
        "dim": dim,
        "depth": depth_of(shapes, layers),
        "mlp_dim": shape_of(shapes, mlp_out, axes=2)[1],
        "block": "serial",
        "qk_norm": False,
        "qkv_bias": True,
        "norm_bias": True,
    }


def check_settings(overrides: Overrides, parts: Mapping[str, Sequence[str]]) -> None:
    """Raise a BundleError when settings say other `parts` than a checkpoint's tensors, name -> what it may then be."""
    for name, values in parts.items():
        if name in overrides and overrides[name] not in values:
            raise BundleError(
                f"config.json says {name} {overrides[name]!r}, and the tensors beside it are those of "
                f"{' or '.join(map(repr, values))}: it is another model's"
            )


def field_of(config: ViTConfig, name: str) -> Any:
    """Return the value of a field of `config`, or of its design."""
    return getattr(config, name) if hasattr(config, name) else getattr(config.design, name)


def undetermined_fields(config: ViTConfig, *more: str) -> dict[str, Any]:
    """Return the fields that no shape of a plain Vision Transformer determines, with their values, and `more`.

    Norms of queries and keys determine the heads, by their width; a gated MLP has one activation only.
    """
    heads = () if config.design.qk_norm else ("heads",)
    activation = () if config.design.mlp == "swiglu" else ("mlp",)
    return {name: field_of(config, name) for name in (*heads, *activation, "norm_eps", *more)}


def whole_patches(image_size: Size, patch_size: Size) -> tuple[int, int]:
    """Return (height, width) of the patches that fit into an image.

    Raises:
        ConfigError: when one of the two is no size.
    """
    (height, width), (patch_height, patch_width) = pair("image_size", image_size), pair("patch_size", patch_size)
    return height // patch_height * patch_height, width // patch_width * patch_width


def shape_of(shapes: Shapes, name: str, axes: int) -> Shape:
    """Return the shape of the tensor called `name`.

    Raises:
        BundleError: when it is missing, or has another number of `axes`.
    """
    if name not in shapes:
        raise BundleError(
            f"the checkpoint has no {name}, which tells how big the model is; it is another kind of model, or a part "
            "of one"
        )
    if len(shapes[name]) != axes:
        raise BundleError(f"{name} has shape {shapes[name]}, expected one of {axes} axes")
    return shapes[name]


def num_classes(shapes: Shapes, weight: str) -> int:
    """Return how many classes the head's `weight` (classes, D) is for; 0 where there is no head.

    Raises:
        BundleError: when it is no matrix.
    """
    return shape_of(shapes, weight, axes=2)[0] if weight in shapes else 0


def count_of(shapes: Shapes, name: str) -> int:
    """Return how many tokens a tensor (1, tokens, D) has; 0 where there is none.

    Raises:
        BundleError: when it has another number of axes.
    """
    return shape_of(shapes, name, axes=3)[1] if name in shapes else 0


def depth_of(shapes: Shapes, layers: str) -> int:
    """Return how many layers there are; `layers` is what their names begin with, such as "blocks."."""
    numbers = {int(found[1]) for name in shapes if (found := re.match(rf"{re.escape(layers)}(\d+)[./]", name))}
    return max(numbers, default=-1) + 1


def heads_of_dinov3(dim: int) -> int:
    """Return DINOv3's heads, of 64 channels (arXiv 2508.10104): its H+ has others than the H of the same sizes."""
    return max(1, dim // (128 if dim == 4096 else 64))


def image_of(patches: int, patch_hw: tuple[int, int], overrides: Overrides) -> tuple[int, int]:
    """Return (height, width) of the images that so many positions are for: as known, else square.

    Raises:
        BundleError: when they are of no square and nothing says which oblong.
        ConfigError: when the known size is none.
    """
    if "image_size" in overrides:
        return whole_patches(overrides["image_size"], patch_hw)
    side = math.isqrt(max(patches, 0))
    if side * side != patches or not side:
        raise BundleError(
            f"the checkpoint has positions for {patches} patches, which are no square; say the image size: "
            "megavit convert --image-size HEIGHTxWIDTH"
        )
    return side * patch_hw[0], side * patch_hw[1]


def patch_of(pixels: int, overrides: Overrides) -> tuple[tuple[int, int], int]:
    """Return ((height, width), channels) of a patch of so many numbers: as known, else square, and of 3 channels.

    Raises:
        BundleError: when no such patch has so many.
    """
    channels = overrides.get("channels", 3)
    side = math.isqrt(pixels // channels)
    size = overrides.get("patch_size", side)
    height, width = (size, size) if isinstance(size, int) else size
    if height * width * channels != pixels:
        raise BundleError(
            f"the checkpoint's patches have {pixels} numbers, which are not {height} × {width} pixels of {channels} "
            "channels; say which they are: megavit convert --patch-size --channels"
        )
    return (height, width), channels


def heads_of_width(inner: int, overrides: Overrides) -> tuple[int, int]:
    """Return (heads, width of one) for queries of `inner` numbers: as known, else 64 channels a head.

    Raises:
        BundleError: when they do not divide.
    """
    if "heads" in overrides:
        check_whole("heads", overrides["heads"], minimum=1)
    heads = overrides.get("heads") or max(1, inner // (overrides.get("dim_head") or 64))
    dim_head = overrides.get("dim_head") or max(1, inner // heads)
    if heads * dim_head != inner:
        raise BundleError(
            f"the checkpoint's queries have {inner} numbers, which are not {heads} heads of {dim_head}; say how many: "
            "megavit convert --num-heads"
        )
    return heads, dim_head


def _with_heads(found: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """Return `found` with heads and the width of one, for attention over the whole width.

    No shape determines the heads of plain attention: they are those of the preset of these sizes, else 64 channels
    a head.
    """
    dim, sizes = found["dim"], (found["dim"], found["depth"], found["mlp_dim"])
    presets = {(row.dim, row.depth, row.mlp_dim): row.heads for row in reversed(PRESETS.values())}
    presets[1536, 40, 6144] = 16  # SigLIP 2's giant-opt (arXiv 2502.14786)
    heads = overrides["heads"] if "heads" in overrides else presets.get(sizes, max(1, dim // 64))
    check_whole("heads", heads, minimum=1)
    return {**found, "heads": heads, "dim_head": overrides.get("dim_head", dim // heads)}
