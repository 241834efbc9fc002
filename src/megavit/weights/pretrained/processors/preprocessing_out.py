"""How images are prepared, as the settings of another library: the same pixels there, or a refusal."""

import math
from typing import Any

from megavit.config.preprocessing import CropRounding, Preprocessing, crop_start
from megavit.config.vit import pair
from megavit.errors import BundleError

FLOATS = "DINOv3ViTImageProcessor"
"""Of Hugging Face's image processors the one that rescales first, and so resizes without rounding."""


def timm_preparation(given: Preprocessing) -> dict[str, Any]:
    """Return the part of timm's `pretrained_cfg` that its transforms read.

    Raises:
        BundleError: for a resize or a crop that timm does not have.
    """
    height, width = given.crop_hw
    resized = (height, width) if given.resize is None else pair("resize", given.resize)
    _check_rounding(given, "half_even", "timm", "huggingface")
    return {
        "input_size": [given.channels, height, width],
        "mean": by_channel(given, given.mean),
        "std": by_channel(given, given.std),
        "interpolation": given.interpolation,
        "crop_pct": _crop_pct((height, width), resized),
        "crop_mode": "center" if isinstance(given.resize, int) else "squash",
    }


def _crop_pct(crop: tuple[int, int], resized: tuple[int, int]) -> float:
    """Return the share for which timm resizes to `resized`: by it, each side of the crop is divided and rounded down.

    Raises:
        BundleError: where there is none.
    """
    if crop == resized:
        return 1.0
    pairs = list(zip(crop, resized, strict=True))
    above, most = max(cut / (side + 1) for cut, side in pairs), min(cut / side for cut, side in pairs)
    pct = (above + most) / 2
    if any(math.floor(cut / pct) != side for cut, side in pairs):
        raise BundleError(
            f"images are resized to {resized[0]} × {resized[1]} before {crop[0]} × {crop[1]} are cut out, and timm "
            "has one crop_pct for both sides: write it for Hugging Face instead (--to huggingface)"
        )
    return pct


def hugging_face_preparation(given: Preprocessing) -> dict[str, Any]:
    """Return Hugging Face's preprocessor_config.json.

    Raises:
        BundleError: for a crop that its image processors do not have.
    """
    common = {
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": by_channel(given, given.mean),
        "image_std": by_channel(given, given.std),
        "resample": {"bilinear": 2, "bicubic": 3}[given.interpolation],
        "do_convert_rgb": given.channels == 3,
    }
    height, width = given.crop_hw
    size = {"height": height, "width": width}
    floats = given.resize_dtype == "float32"
    if given.resize is None or given.resize == (height, width):
        return common | {"image_processor_type": FLOATS if floats else "ViTImageProcessor", "size": size}
    _check_rounding(given, "floor", "Hugging Face", "timm")
    if isinstance(given.resize, int):
        before: dict[str, int] = {"shortest_edge": given.resize}
    else:
        before = dict(zip(("height", "width"), given.resize, strict=True))
    return common | {
        "image_processor_type": FLOATS if floats else "CLIPImageProcessor",
        "size": before,
        "do_center_crop": True,
        "crop_size": size,
    }


def _check_rounding(given: Preprocessing, theirs: CropRounding, library: str, other: str) -> None:
    """Raise a BundleError where `library` would cut another pixel's row or column out."""
    if given.resize is None or given.crop_rounding == theirs:
        return
    if not isinstance(given.resize, int):
        margins = [side - cut for side, cut in zip(given.resize, given.crop_hw, strict=True)]
        if all(crop_start(margin, theirs) == crop_start(margin, given.crop_rounding) for margin in margins):
            return
    how = {"half_even": "to the even number", "floor": "down"}
    raise BundleError(
        f"this model's images are cut at the half of the margin rounded {how[given.crop_rounding]}, and {library} "
        f"rounds it {how[theirs]}: one pixel apart, which moves answers; write it with --to {other} instead"
        + (", whose folders transformers loads too" if other == "timm" else "")
    )


def by_channel(given: Preprocessing, value: float | tuple[float, ...]) -> list[float]:
    return list(value) if isinstance(value, tuple) else [value] * given.channels


def image_size(grid: tuple[int, int], image_hw: tuple[int, int], given: Preprocessing) -> tuple[int, int]:
    """Return the image size that another library's model is to be told: with the margin that its convolution drops.

    Args:
        grid: of the model's patches.
        image_hw: of the model.
        given: the preprocessing of its images.
    """
    crop, patch = given.crop_hw, pair("patch_size", given.patch_size)
    fits = (crop[0] // patch[0], crop[1] // patch[1]) == grid
    return crop if fits and given.crop_size is not None else image_hw
