"""The fields of a config that the shapes of a checkpoint's tensors determine, for every library alike."""

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
"""Fields of `ViTConfig` and `Design` that settings files or the user give; they go before what shapes suggest."""


@dataclass(frozen=True)
class CheckpointFacts:
    """What is known of a checkpoint: the shapes of its tensors, and what its settings or the user say.

    Each method raises a BundleError for a tensor that is missing or has another number of axes, and where the shapes
    do not determine what is asked for and `overrides` do not say it.
    """

    shapes: Shapes
    overrides: Overrides

    def __contains__(self, tensor: str) -> bool:
        return tensor in self.shapes

    def shape(self, name: str, axes: int) -> Shape:
        """Return the shape of a tensor."""
        if name not in self.shapes:
            raise BundleError(
                f"the checkpoint has no {name}, which tells how big the model is; it is another kind of model, or a "
                "part of one"
            )
        if len(self.shapes[name]) != axes:
            raise BundleError(f"{name} has shape {self.shapes[name]}, expected one of {axes} axes")
        return self.shapes[name]

    def tokens(self, name: str) -> int:
        """Return how many tokens a tensor (1, tokens, D) has; 0 where there is none."""
        return self.shape(name, axes=3)[1] if name in self else 0

    def num_classes(self, weight: str) -> int:
        """Return how many classes the head's `weight` (classes, D) is for; 0 where there is no head."""
        return self.shape(weight, axes=2)[0] if weight in self else 0

    def depth(self, layers: str) -> int:
        """Return how many layers there are; `layers` is what their names begin with, such as "blocks."."""
        pattern = re.compile(rf"{re.escape(layers)}(\d+)[./]")
        return max((int(found[1]) for name in self.shapes if (found := pattern.match(name))), default=-1) + 1

    def plain_fields(self, *, kernel: str, layers: str, mlp_out: str, head: str = "") -> Fields:
        """Return the fields of a plain Vision Transformer that its shapes determine, without heads and image size.

        Args:
            kernel: the weight of the patch projection, a convolution's (D, C, height, width).
            layers: what the names of layers begin with, up to the number.
            mlp_out: the weight (D, M) of the first layer's last projection.
            head: the weight (classes, D) of the classifier, if there is one.
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
        """Return (height, width) of the images that this many positions are for: as known, else square."""
        if "image_size" in self.overrides:
            return whole_patches(self.overrides["image_size"], patch_hw)
        side = math.isqrt(max(patches, 0))
        if side * side != patches or not side:
            raise BundleError(
                f"the checkpoint has positions for {patches} patches, which are no square; say the image size: "
                "megavit convert --image-size HEIGHTxWIDTH"
            )
        return side * patch_hw[0], side * patch_hw[1]

    def require_image_size(self) -> None:
        """Raise a BundleError unless the image size is known, of which computed positions leave no trace."""
        if "image_size" not in self.overrides:
            raise BundleError(
                "the checkpoint has computed positions and nothing says of what images; say the image size: "
                "megavit convert --image-size"
            )

    def patch_fields(self, pixels: int) -> Fields:
        """Return patch size and channels of patches of this many numbers: as known, else square, of 3 channels."""
        channels = self.overrides.get("channels", 3)
        size = self.overrides.get("patch_size", math.isqrt(pixels // channels))
        height, width = (size, size) if isinstance(size, int) else size
        if height * width * channels != pixels:
            raise BundleError(
                f"the checkpoint's patches have {pixels} numbers, which are not {height} × {width} pixels of "
                f"{channels} channels; say which they are: megavit convert --patch-size --channels"
            )
        return {"patch_size": (height, width), "channels": channels}

    def head_fields(self, inner: int, known: Overrides) -> Fields:
        """Return heads and the width of one for queries of `inner` numbers: as known, else 64 channels a head."""
        if "heads" in known:
            check_integer("heads", known["heads"], minimum=1)
        heads = known.get("heads") or max(1, inner // (known.get("dim_head") or 64))
        dim_head = known.get("dim_head") or max(1, inner // heads)
        if heads * dim_head != inner:
            raise BundleError(
                f"the checkpoint's queries have {inner} numbers, which are not {heads} heads of {dim_head}; say how "
                "many: megavit convert --num-heads"
            )
        return {"heads": heads, "dim_head": dim_head}

    def check_settings(self, parts: Mapping[str, Sequence[str]]) -> None:
        """Raise a BundleError when settings say other `parts` than the tensors, name -> what it may then be."""
        for name, values in parts.items():
            if name in self.overrides and self.overrides[name] not in values:
                raise BundleError(
                    f"config.json says {name} {self.overrides[name]!r}, and the tensors beside it are those of "
                    f"{' or '.join(map(repr, values))}: it is another model's"
                )


def make_config(found: Fields, overrides: Overrides) -> ViTConfig:
    """Return the config of the fields that shapes determine, `found`, and of `overrides`, which go first.

    Fields in `found["certain"]` go before both.

    Image sides are cut to whole patches: the remainder at the right and at the bottom is dropped by their
    convolutions, as by SigLIP's So400m of 384 pixels in patches of 14.

    Raises:
        ConfigError: when they do not fit together.
    """
    both = {**found, **overrides, **found.get("certain", {})}
    if "dim_head" not in found:  # of attention over the whole width
        both["heads"] = both["heads"] if "heads" in both else usual_heads(both["dim"], found["depth"], found["mlp_dim"])
        check_integer("heads", both["heads"], minimum=1)
        both.setdefault("dim_head", both["dim"] // both["heads"])
    both["image_size"] = whole_patches(both["image_size"], both["patch_size"])
    if not both.get("registers") and both.get("prefix_positions") == "all":
        both["prefix_positions"] = "class"  # the same without registers, and the default
    names = {field.name for field in fields(Design)}
    design = Design(**{name: value for name, value in both.items() if name in names})
    sizes = {field.name: both[field.name] for field in fields(ViTConfig) if field.name in both}
    return ViTConfig(**sizes | {"design": design})


def usual_heads(dim: int, depth: int, mlp_dim: int) -> int:
    """Return the heads of the preset of these sizes, else of 64 channels, as no shape of plain attention tells."""
    presets = {(row.dim, row.depth, row.mlp_dim): row.heads for row in reversed(PRESETS.values())}
    presets[1536, 40, 6144] = 16  # SigLIP 2's giant-opt (arXiv 2502.14786)
    return presets.get((dim, depth, mlp_dim), max(1, dim // 64))


def heads_of_dinov3(dim: int) -> int:
    """Return DINOv3's heads, of 64 channels (arXiv 2508.10104): its H+ has others than the H of the same sizes."""
    return max(1, dim // (128 if dim == 4096 else 64))


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
