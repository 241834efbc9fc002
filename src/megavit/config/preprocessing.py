"""Describe how pixels become the model's input."""

import math
from dataclasses import dataclass
from typing import Literal

from megavit.config.checks import MAX_SIDE, Settings, check_channels, check_integer, check_range
from megavit.config.vit import Size, check_divisible, pair
from megavit.errors import ConfigError

Interpolation = Literal["bicubic", "bilinear"]
CropRounding = Literal["half_even", "floor"]
ResizeDtype = Literal["uint8", "float32"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing(Settings):
    """The preprocessing of images: antialiased resizing to `size_for`, a center crop, then (value / 255 - mean) / std.

    Attributes:
        height, width: size of the model's input in pixels, at least 2.
        channels: 1 (gray), 3 (RGB), or any other number up to 64 that the images must have.
        mean, std: statistics of values in [0, 1]; one number for all channels, or one for each.
        interpolation: "bicubic", or "bilinear" for weights trained with it.
        resize: for weights trained with a center crop: length of the shorter side in pixels, with the aspect kept, or
            (height, width). None resizes the full image to `height` × `width` without a crop.
        crop_size: size of the center crop in pixels, one number or (height, width); None for `height` × `width`. Of a
            larger crop the model sees the top left `height` × `width`, as a convolution does with an image whose size
            is not a multiple of the patch size.
        crop_rounding: rounding of an odd margin's half: to even ("half_even", as in torchvision and timm) or down
            ("floor", as in Hugging Face's image processors).
        resize_dtype: "uint8", which rounds resized pixels to 255 levels, or "float32", which does not (as Hugging
            Face's image processor of DINOv3).
        reduced_decoding: whether a JPEG far larger than needed is decoded at 1/2, 1/4 or 1/8, which is several times
            faster and changes pixels slightly; False gives the same pixels as other libraries.
        keep_aspect: whether each image is resized to about its own aspect, to whole patches, with at most as many
            patches as `height` × `width` (arXiv 2307.06304, section 2; arXiv 2502.14786, section 2.4.2).
        patch_size: patch size of the model for `keep_aspect`, in pixels, one number or (height, width).
    """

    height: int
    width: int
    channels: int
    mean: float | tuple[float, ...] = 0.5
    std: float | tuple[float, ...] = 0.5
    interpolation: Interpolation = "bicubic"
    resize: Size | None = None
    crop_size: Size | None = None
    crop_rounding: CropRounding = "half_even"
    resize_dtype: ResizeDtype = "uint8"
    reduced_decoding: bool = True
    keep_aspect: bool = False
    patch_size: Size = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_channels("channels", self.channels)
        for name in ("height", "width"):
            # PyTorch (2.15) resizes incorrectly to a single column.
            check_integer(name, getattr(self, name), minimum=2, maximum=MAX_SIDE)
        # float32 would overflow far beyond these limits.
        for value in self._for_channels("mean"):
            check_range("mean", value, -1e4, 1e4)
        for value in self._for_channels("std"):
            check_range("std", value, 1e-6, 1e6)
        if self.resize_dtype == "float32" and self.channels == 1:
            raise ConfigError("resize_dtype float32 requires several channels, as gray images have integer levels")
        self._check_resize()
        patch_hw = pair("patch_size", self.patch_size)
        object.__setattr__(self, "patch_size", patch_hw)
        if self.keep_aspect:
            check_divisible((self.height, self.width), patch_hw)

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) in pixels to which an image of the given height and width is resized.

        With `keep_aspect`, it is the grid closest to the image's aspect that has at most the maximum number of patches.

        Raises:
            ConfigError: if a side is below 1.
        """
        check_integer("an image's height", height, minimum=1)
        check_integer("an image's width", width, minimum=1)
        if isinstance(self.resize, int):
            # The same as torchvision's Resize(int).
            longer = int(self.resize * max(height, width) / min(height, width))
            return (self.resize, longer) if height <= width else (longer, self.resize)
        if not self.keep_aspect:
            return pair("resize", self.resize) if self.resize else (self.height, self.width)
        patch_height, patch_width = pair("patch_size", self.patch_size)
        max_patches = (self.height // patch_height) * (self.width // patch_width)
        # At least two pixels, as for `height` and `width`.
        min_rows, min_columns = -(-2 // patch_height), -(-2 // patch_width)
        # A single division of integers gives the same result on every machine.
        rows = math.sqrt(max_patches * height * patch_width / (width * patch_height))
        columns = max_patches / rows
        grids = [
            (r, min(max(c, min_columns), max_patches // r))
            for r in (min(max(n, min_rows), max_patches // min_columns) for n in (int(rows), int(rows) + 1))
            for c in (int(columns), int(columns) + 1)
        ]
        r, c = min(grids, key=lambda grid: (abs(math.log(grid[0] / rows)) + abs(math.log(grid[1] / columns)), grid))
        return r * patch_height, c * patch_width

    def decode_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the smallest (height, width) in pixels to decode an image of the given size at before resizing."""
        return self.size_for(height, width) if self.reduced_decoding else (height, width)

    @property
    def crop_hw(self) -> tuple[int, int]:
        """The (height, width) of the center crop in pixels."""
        return (self.height, self.width) if self.crop_size is None else pair("crop_size", self.crop_size)

    def crop_offset(self, height: int, width: int) -> tuple[int, int]:
        """Return (top, left) of the model's input within an image resized to the given height and width."""
        crop_height, crop_width = self.crop_hw
        return crop_start(height - crop_height, self.crop_rounding), crop_start(width - crop_width, self.crop_rounding)

    def _check_resize(self) -> None:
        if self.resize is None:
            if self.crop_size is not None:
                raise ConfigError("crop_size sets the crop of a resized image: set resize as well")
            return
        if not isinstance(self.resize, int):
            object.__setattr__(self, "resize", pair("resize", self.resize))
        if self.keep_aspect:
            raise ConfigError("resize and keep_aspect both set how an image is resized: set only one of them")
        if self.crop_size is not None and not isinstance(self.crop_size, int):
            object.__setattr__(self, "crop_size", pair("crop_size", self.crop_size))
        check_range("resize", max(pair("resize", self.resize)), 1, MAX_SIDE)
        crop_height, crop_width = self.crop_hw
        if crop_height < self.height or crop_width < self.width:
            raise ConfigError(
                f"crop_size must be at least the model's input size, {self.height} × {self.width}; got {self.crop_size}"
            )
        height, width = pair("resize", self.resize)
        if height < crop_height or width < crop_width:
            raise ConfigError(f"resize must be at least the crop size, {crop_height} × {crop_width}; got {self.resize}")

    def _for_channels(self, name: str) -> tuple[float, ...]:
        value = getattr(self, name)
        if not isinstance(value, tuple):
            return (value,)
        if len(value) != self.channels:
            raise ConfigError(f"{name} must be one number, or one for each of {self.channels} channels; got {value!r}")
        return value


def crop_start(margin: int, rounding: CropRounding) -> int:
    """Return the first pixel of a center crop, given the sum of both margins in pixels, at least 0."""
    half = margin // 2
    return half + (margin % 2) * (half % 2) if rounding == "half_even" else half
