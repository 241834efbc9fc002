"""Preprocessing as every library's settings describe it: pixel values, and the geometry of resize and crop."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from megavit.config.checks import is_number
from megavit.config.preprocessing import CropRounding, Interpolation, Preprocessing, ResizeDtype
from megavit.config.vit import Size, ViTConfig
from megavit.errors import BundleError


@dataclass(frozen=True, kw_only=True)
class PixelValues:
    """Normalization, (value / 255 - mean) / std, after a resize by `interpolation` that rounds to `resize_dtype`."""

    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]
    interpolation: Interpolation
    resize_dtype: ResizeDtype = "uint8"


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The size that images are resized to, and the center crop.

    Attributes:
        resize: pixels of the shorter side, or (height, width).
        crop: (height, width) of the center crop, which may be all of it.
        rounding: of the offset of the crop.
    """

    resize: Size
    crop: tuple[int, int]
    rounding: CropRounding = "half_even"


def make_preprocessing(config: ViTConfig, values: PixelValues, geometry: Geometry | None) -> Preprocessing:
    """Return the preprocessing of a model's images.

    Of a crop that is not a whole number of patches, the model sees what a convolution leaves: all whole patches from
    the top left.

    Args:
        geometry: None: the whole image at the model's size.
    """
    height, width = config.image_hw
    crop: dict[str, Any] = {}
    if geometry is not None:
        patch_height, patch_width = config.patch_hw
        height, width = geometry.crop[0] // patch_height * patch_height, geometry.crop[1] // patch_width * patch_width
        if not height or not width:
            raise BundleError(
                f"images are prepared at {geometry.crop[0]} × {geometry.crop[1]} pixels, which is less than a patch "
                f"of {patch_height} × {patch_width}"
            )
        if geometry.resize != (height, width):
            crop = {
                "resize": geometry.resize,
                "crop_size": None if geometry.crop == (height, width) else geometry.crop,
                "crop_rounding": geometry.rounding,
            }
    return Preprocessing(
        height=height,
        width=width,
        channels=config.channels,
        mean=_for_channels(values.mean, config.channels),
        std=_for_channels(values.std, config.channels),
        interpolation=values.interpolation,
        resize_dtype=values.resize_dtype,
        patch_size=config.patch_size,
        reduced_decoding=False,
        **crop,
    )


def read_channels(name: str, value: Any) -> float | tuple[float, ...]:
    """Return one number, or one for each channel, of a mean or a standard deviation.

    Raises:
        BundleError: where it is neither.
    """
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    if not numbers or not all(is_number(number) for number in numbers):
        raise BundleError(f"{name} is {value!r}, expected a number, or one for each channel")
    return tuple(float(number) for number in numbers) if isinstance(value, list | tuple) else float(value)


def _for_channels(value: float | tuple[float, ...], channels: int) -> float | tuple[float, ...]:
    """Return a list of one number as that number, which is for every channel."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 and channels > 1 else value


def unknown_settings(given: Mapping[str, Any], known: Container[str]) -> str:
    """Return the settings that are not among the known ones and are not off, with their values; "" for none."""
    return ", ".join(
        f"{name} {value!r}"
        for name, value in given.items()
        if name not in known and value is not None and value is not False
    )
