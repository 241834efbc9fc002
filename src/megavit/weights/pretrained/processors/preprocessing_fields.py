"""Library-independent preprocessing fields: pixel values, and the geometry of resize and crop."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from megavit.config.checks import is_number
from megavit.config.preprocessing import CropRounding, Interpolation, Preprocessing, ResizeDtype
from megavit.config.vit import Size, ViTConfig
from megavit.errors import BundleError


@dataclass(frozen=True, kw_only=True)
class PixelValues:
    """Normalization, (value / 255 - mean) / std, after a resize by `interpolation` with `resize_dtype` values."""

    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]
    interpolation: Interpolation
    resize_dtype: ResizeDtype = "uint8"


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The resize, to the shorter side's pixels or (height, width), and the (height, width) of the center crop."""

    resize: Size
    crop: tuple[int, int]
    rounding: CropRounding = "half_even"


def make_preprocessing(config: ViTConfig, values: PixelValues, geometry: Geometry | None) -> Preprocessing:
    """Return a model's preprocessing; without `geometry`, it resizes images to the model's size without a crop.

    A crop is cut to whole patches from the top left, as by a convolution; a BundleError is raised if none are left.
    """
    height, width = config.image_hw
    crop: dict[str, Any] = {}
    if geometry is not None:
        patch_height, patch_width = config.patch_hw
        height, width = geometry.crop[0] // patch_height * patch_height, geometry.crop[1] // patch_width * patch_width
        if not height or not width:
            raise BundleError(
                f"images are preprocessed to {geometry.crop[0]} × {geometry.crop[1]} pixels, which is less than a "
                f"patch of {patch_height} × {patch_width}"
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
    """Return a mean or standard deviation: one number, or one per channel; raise a BundleError if it is neither."""
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    if not numbers or not all(is_number(number) for number in numbers):
        raise BundleError(f"{name} is {value!r}, expected a number, or one for each channel")
    return tuple(float(number) for number in numbers) if isinstance(value, list | tuple) else float(value)


def _for_channels(value: float | tuple[float, ...], channels: int) -> float | tuple[float, ...]:
    return value[0] if isinstance(value, tuple) and len(value) == 1 and channels > 1 else value


def unknown_settings(given: Mapping[str, Any], known: Container[str]) -> str:
    """Return settings that are neither known nor null or false, with their values, as text; "" for none."""
    return ", ".join(
        f"{name} {value!r}"
        for name, value in given.items()
        if name not in known and value is not None and value is not False
    )
