"""Convert preprocessing to another library's settings that give exactly the same pixels."""

import math
from typing import Any

from megavit.config.preprocessing import CropRounding, Preprocessing, crop_start
from megavit.config.vit import pair
from megavit.errors import BundleError

FLOATS = "DINOv3ViTImageProcessor"
"""Hugging Face's image processor that rescales before resizing, and so resizes without rounding."""


def timm_data_config(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return timm's `pretrained_cfg`; raise a BundleError if timm cannot express the resize or crop."""
    height, width = preprocessing.crop_hw
    resized = (height, width) if preprocessing.resize is None else pair("resize", preprocessing.resize)
    _check_rounding(preprocessing, "half_even", "timm", "huggingface")
    return {
        "input_size": [preprocessing.channels, height, width],
        "mean": per_channel(preprocessing, preprocessing.mean),
        "std": per_channel(preprocessing, preprocessing.std),
        "interpolation": preprocessing.interpolation,
        "crop_pct": _crop_pct((height, width), resized),
        "crop_mode": "center" if isinstance(preprocessing.resize, int) else "squash",
    }


def _crop_pct(crop: tuple[int, int], resized: tuple[int, int]) -> float:
    """Return the `crop_pct` by which timm divides each side of the crop; raise a BundleError if there is none."""
    if crop == resized:
        return 1.0
    pairs = list(zip(crop, resized, strict=True))
    low, high = max(cut / (side + 1) for cut, side in pairs), min(cut / side for cut, side in pairs)
    pct = (low + high) / 2
    if any(math.floor(cut / pct) != side for cut, side in pairs):
        raise BundleError(
            f"images are resized to {resized[0]} × {resized[1]} and cropped to {crop[0]} × {crop[1]}, but timm has "
            "one crop_pct for both sides: write it for Hugging Face instead (--to huggingface)"
        )
    return pct


def hf_processor_settings(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return Hugging Face's preprocessor_config.json; raise a BundleError if it cannot express the crop."""
    common = {
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": per_channel(preprocessing, preprocessing.mean),
        "image_std": per_channel(preprocessing, preprocessing.std),
        "resample": {"bilinear": 2, "bicubic": 3}[preprocessing.interpolation],
        "do_convert_rgb": preprocessing.channels == 3,
    }
    height, width = preprocessing.crop_hw
    size = {"height": height, "width": width}
    floats = preprocessing.resize_dtype == "float32"
    if preprocessing.resize is None or preprocessing.resize == (height, width):
        return common | {"image_processor_type": FLOATS if floats else "ViTImageProcessor", "size": size}
    _check_rounding(preprocessing, "floor", "Hugging Face", "timm")
    if isinstance(preprocessing.resize, int):
        resize: dict[str, int] = {"shortest_edge": preprocessing.resize}
    else:
        resize = dict(zip(("height", "width"), preprocessing.resize, strict=True))
    return common | {
        "image_processor_type": FLOATS if floats else "CLIPImageProcessor",
        "size": resize,
        "do_center_crop": True,
        "crop_size": size,
    }


def _check_rounding(preprocessing: Preprocessing, theirs: CropRounding, library: str, other: str) -> None:
    """Raise a BundleError if `library` would crop at an offset that differs by one pixel."""
    if preprocessing.resize is None or preprocessing.crop_rounding == theirs:
        return
    if not isinstance(preprocessing.resize, int):
        margins = [side - cut for side, cut in zip(preprocessing.resize, preprocessing.crop_hw, strict=True)]
        if all(crop_start(margin, theirs) == crop_start(margin, preprocessing.crop_rounding) for margin in margins):
            return
    how = {"half_even": "to the even number", "floor": "down"}
    raise BundleError(
        f"this model crops images at half of the margin, rounded {how[preprocessing.crop_rounding]}, but {library} "
        f"rounds it {how[theirs]}: a shift of one pixel, which changes outputs; write it with --to {other} instead"
        + (", whose folders transformers loads too" if other == "timm" else "")
    )


def per_channel(preprocessing: Preprocessing, value: float | tuple[float, ...]) -> list[float]:
    return list(value) if isinstance(value, tuple) else [value] * preprocessing.channels


def image_size(grid: tuple[int, int], image_hw: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Return the (height, width) for another library's model, with the margin that its convolution drops."""
    crop, patch = preprocessing.crop_hw, pair("patch_size", preprocessing.patch_size)
    fits = (crop[0] // patch[0], crop[1] // patch[1]) == grid
    return crop if fits and preprocessing.crop_size is not None else image_hw
