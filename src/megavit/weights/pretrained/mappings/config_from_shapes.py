"""Derive the fields of a config from the shapes of a checkpoint's tensors."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from megavit.config.checks import check_integer
from megavit.config.presets import PRESETS
from megavit.config.vit import Design, Size, ViTConfig, pair
from megavit.errors import BundleError
from megavit.model.statistics import Shape, Shapes

Fields = dict[str, Any]
Overrides = Mapping[str, Any]
"""Fields of `ViTConfig` and `Design` from settings files or the user, which take precedence over shapes."""


@dataclass(frozen=True)
class CheckpointFacts:
    """Known facts of a checkpoint: the shapes of its tensors, and overrides from its settings or the user.

    Methods raise a BundleError if a tensor is missing, has another number of axes, or does not determine a field.
    """

    shapes: Shapes
    overrides: Overrides

    def __contains__(self, tensor: str) -> bool:
        return tensor in self.shapes

    def shape(self, name: str, axes: int) -> Shape:
        """Return the shape of a tensor with this number of axes."""
        if name not in self.shapes:
            raise BundleError(
                f"the checkpoint has no {name}, which sets the model's size: it is from another kind of model, or "
                "incomplete"
            )
        if len(self.shapes[name]) != axes:
            raise BundleError(f"{name} has shape {self.shapes[name]}, expected {axes} axes")
        return self.shapes[name]

    def tokens(self, name: str) -> int:
        """Return the number of tokens in a tensor (1, tokens, D), or 0 if it does not exist."""
        return self.shape(name, axes=3)[1] if name in self else 0

    def num_classes(self, weight: str) -> int:
        """Return the number of classes of the head's `weight` (classes, D), or 0 if there is no head."""
        return self.shape(weight, axes=2)[0] if weight in self else 0

    def depth(self, layers: str) -> int:
        """Return the number of layers, whose names begin with `layers`, such as "blocks."."""
        pattern = re.compile(rf"{re.escape(layers)}(\d+)[./]")
        return max((int(found[1]) for name in self.shapes if (found := pattern.match(name))), default=-1) + 1

    def plain_fields(self, *, kernel: str, layers: str, mlp_out: str, head: str = "") -> Fields:
        """Return the fields that shapes determine in a plain Vision Transformer, without heads and image size.

        Args:
            kernel: name of the patch embedding's convolution weight (D, C, height, width).
            layers: prefix of layer names before the index.
            mlp_out: name of the weight (D, M) of the first layer's last projection.
            head: name of the classifier's weight (classes, D), if any.
        """
        dim, channels, height, width = self.shape(kernel, axes=4)
        return {
            "patch_size": (height, width),
            "channels": channels,
            "num_classes": self.num_classes(head),
            "dim": dim,
            "depth": self.depth(layers),
            "mlp_dim": self.shape(mlp_out, axes=2)[1],
            "block": "serial",
            "qk_norm": False,
            "qkv_bias": True,
            "norm_bias": True,
        }

    def image_size(self, patches: int, patch_hw: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) of images with this number of patches; square unless overridden."""
        if "image_size" in self.overrides:
            return round_to_patches(self.overrides["image_size"], patch_hw)
        side = math.isqrt(max(patches, 0))
        if side * side != patches or not side:
            raise BundleError(
                f"the checkpoint has positions for {patches} patches, which do not form a square: set the image size "
                "with megavit convert --image-size HEIGHTxWIDTH"
            )
        return side * patch_hw[0], side * patch_hw[1]

    def require_image_size(self) -> None:
        """Raise a BundleError unless the image size, which computed positions do not determine, is overridden."""
        if "image_size" not in self.overrides:
            raise BundleError(
                "the checkpoint has computed positions, which do not determine the image size: set it with megavit "
                "convert --image-size"
            )

    def patch_fields(self, pixels: int) -> Fields:
        """Return patch size and channels for patches of `pixels` numbers; square with 3 channels unless overridden."""
        channels = self.overrides.get("channels", 3)
        size = self.overrides.get("patch_size", math.isqrt(pixels // channels))
        height, width = (size, size) if isinstance(size, int) else size
        if height * width * channels != pixels:
            raise BundleError(
                f"the checkpoint's patches have {pixels} numbers, which are not {height} × {width} pixels of "
                f"{channels} channels: set them with megavit convert --patch-size --channels"
            )
        return {"patch_size": (height, width), "channels": channels}

    def head_fields(self, inner: int, known: Overrides) -> Fields:
        """Return heads and dim_head for queries of `inner` numbers; dim_head is 64 unless `known` has other values."""
        if "heads" in known:
            check_integer("heads", known["heads"], minimum=1)
        heads = known.get("heads") or max(1, inner // (known.get("dim_head") or 64))
        dim_head = known.get("dim_head") or max(1, inner // heads)
        if heads * dim_head != inner:
            raise BundleError(
                f"the checkpoint's queries have {inner} numbers, which are not {heads} heads of {dim_head}: set the "
                "number with megavit convert --num-heads"
            )
        return {"heads": heads, "dim_head": dim_head}

    def check_settings(self, parts: Mapping[str, Sequence[str]]) -> None:
        """Raise a BundleError if overrides have values that the tensors rule out; `parts` are the possible ones."""
        for name, values in parts.items():
            if name in self.overrides and self.overrides[name] not in values:
                raise BundleError(
                    f"config.json has {name} {self.overrides[name]!r}, but the tensors are those of "
                    f"{' or '.join(map(repr, values))}: it is from another model"
                )


def make_config(found: Fields, overrides: Overrides) -> ViTConfig:
    """Return the config of `found` and `overrides`, which take precedence except over `found["certain"]`.

    Image sides are rounded down to whole patches, as by a convolution; a ConfigError is raised for inconsistent sizes.
    """
    both = {**found, **overrides, **found.get("certain", {})}
    if "dim_head" not in found:  # the heads share the width of a token
        both["heads"] = both["heads"] if "heads" in both else guess_heads(both["dim"], found["depth"], found["mlp_dim"])
        check_integer("heads", both["heads"], minimum=1)
        both.setdefault("dim_head", both["dim"] // both["heads"])
    both["image_size"] = round_to_patches(both["image_size"], both["patch_size"])
    if not both.get("registers") and both.get("prefix_positions") == "all":
        both["prefix_positions"] = "class"  # equivalent without registers
    names = {field.name for field in fields(Design)}
    design = Design(**{name: value for name, value in both.items() if name in names})
    sizes = {field.name: both[field.name] for field in fields(ViTConfig) if field.name in both}
    return ViTConfig(**sizes | {"design": design})


def guess_heads(dim: int, depth: int, mlp_dim: int) -> int:
    """Return the heads of the preset with these sizes, else dim / 64, as shapes do not determine them."""
    presets = {(row.dim, row.depth, row.mlp_dim): row.heads for row in reversed(PRESETS.values())}
    presets[1536, 40, 6144] = 16  # SigLIP 2's giant-opt (arXiv 2502.14786)
    return presets.get((dim, depth, mlp_dim), max(1, dim // 64))


def dinov3_heads(dim: int) -> int:
    """Return DINOv3's number of heads (arXiv 2508.10104), which have 64 channels, or 128 if dim is 4096."""
    return max(1, dim // (128 if dim == 4096 else 64))


def get_field(config: ViTConfig, name: str) -> Any:
    """Return the value of a field of `config` or of its design."""
    return getattr(config, name) if hasattr(config, name) else getattr(config.design, name)


def undetermined_fields(config: ViTConfig, *more: str) -> dict[str, Any]:
    """Return the fields that no shape determines in a plain Vision Transformer, and those in `more`, by name."""
    heads = () if config.design.qk_norm else ("heads",)  # else known from the norms' width
    activation = () if config.design.mlp == "swiglu" else ("mlp",)
    return {name: get_field(config, name) for name in (*heads, *activation, "norm_eps", *more)}


def round_to_patches(image_size: Size, patch_size: Size) -> tuple[int, int]:
    """Return (height, width) of an image rounded down to whole patches; raise a ConfigError for invalid sizes."""
    (height, width), (patch_height, patch_width) = pair("image_size", image_size), pair("patch_size", patch_size)
    return height // patch_height * patch_height, width // patch_width * patch_width
