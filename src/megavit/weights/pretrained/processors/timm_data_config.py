"""Read preprocessing from timm (`pretrained_cfg`) and OpenCLIP (`preprocess_cfg`) settings."""

import math
from typing import Any, get_args

from megavit.config.preprocessing import Interpolation
from megavit.config.vit import ViTConfig, pair
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.checkpoint_format import Settings
from megavit.weights.pretrained.processors.hf_defaults import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD
from megavit.weights.pretrained.processors.preprocessing_fields import (
    Geometry,
    PixelValues,
    read_channels,
    unknown_settings,
)

# Fields of timm's PretrainedCfg that affect its transforms.
TIMM_DEFAULTS: Settings = {
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "crop_mode": "center",
    "mean": IMAGENET_MEAN,
    "std": IMAGENET_STD,
}
# Other fields of it, and of a flat config.json, that do not affect them.
TIMM_NEUTRAL = {
    "url", "file", "state_dict", "hf_hub", "hf_hub_id", "hf_hub_filename", "source", "architecture", "tag",
    "custom_load", "input_size", "test_input_size", "min_input_size", "fixed_input_size", "test_crop_pct",
    "num_classes", "label_offset", "label_names", "labels", "label_descriptions", "pool_size", "test_pool_size",
    "first_conv", "classifier", "license", "description", "origin_url", "paper_name", "paper_ids", "notes",
    "num_features", "global_pool", "model_args", "model_type", "architectures", "transformers_version", "dtype",
    "torch_dtype", "id2label", "label2id", "initializer_range", "problem_type", "do_pooling",
}  # fmt: skip
OPEN_CLIP_DEFAULTS: Settings = {
    "mode": "RGB",
    "mean": CLIP_MEAN,
    "std": CLIP_STD,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}


def timm_settings(settings: Settings) -> dict[str, Any] | None:
    """Return config.json's preprocessing with timm's defaults, or None; raise a BundleError for unknown settings."""
    given = settings.get("pretrained_cfg")
    if not given:
        given = settings if "architecture" in settings and TIMM_DEFAULTS.keys() & settings.keys() else None
    if given is None:
        return None
    known = TIMM_DEFAULTS.keys() | TIMM_NEUTRAL
    _refuse_unknown("config.json", "timm", given, known)
    return {**given, **TIMM_DEFAULTS, **{name: given[name] for name in TIMM_DEFAULTS if given.get(name)}}


def timm_geometry(config: ViTConfig, given: Settings, model_args: Settings) -> Geometry:
    """Return timm's resize and crop sizes; raise a BundleError for an unsupported `crop_mode`."""
    height, width = _timm_size(config, given, model_args)
    crop, mode = given["crop_pct"], given["crop_mode"]
    scaled = math.floor(height / crop), math.floor(width / crop)
    if mode == "squash":
        return Geometry(resize=scaled, crop=(height, width))
    if mode == "center" and scaled[0] == scaled[1]:
        return Geometry(resize=scaled[0], crop=(height, width))
    if mode == "center":
        raise BundleError(
            f"config.json has crop_mode 'center' for images of {height} × {width}, whose sides differ: timm resizes "
            'the image to cover them, which megavit does not support. Set "crop_mode": "squash" to use the full image, '
            "if that is good enough"
        )
    raise BundleError(
        f"config.json has crop_mode {mode!r}; megavit supports 'center' and 'squash'. Set \"crop_mode\": "
        '"squash" to use the full image, if that is good enough'
    )


def _timm_size(config: ViTConfig, given: Settings, model_args: Settings) -> tuple[int, int]:
    size = given.get("input_size")
    if given.get("fixed_input_size") and model_args.get("img_size") is not None:
        size = (config.channels, *pair("img_size", model_args["img_size"]))
    if not size:
        size = (config.channels, 224, 224)
    height, width = pair("input_size", size[1:])
    fits = (height // config.patch_hw[0], width // config.patch_hw[1]) == config.grid
    return (height, width) if fits or model_args.get("dynamic_img_size") else config.image_hw


def open_clip_settings(settings: Settings) -> dict[str, Any] | None:
    """Return OpenCLIP's preprocessing with its defaults, or None; raise a BundleError for unknown settings."""
    if not ({"preprocess_cfg", "model_cfg"} & settings.keys()):
        return None
    given = settings.get("preprocess_cfg") or {}
    _refuse_unknown("open_clip_config.json", "OpenCLIP", given, OPEN_CLIP_DEFAULTS.keys() | {"size"})
    given = {name: value for name, value in given.items() if value is not None}
    vision = (settings.get("model_cfg") or {}).get("vision_cfg") or {}
    size = {"size": vision["image_size"]} if vision.get("image_size") else {}
    complete = {**OPEN_CLIP_DEFAULTS, **given, **size}
    if complete["interpolation"] == "random":  # only in training
        complete["interpolation"] = "bicubic"
    if complete["mode"] != "RGB":
        raise BundleError(f"open_clip_config.json has mode {complete['mode']!r}; OpenCLIP itself supports only RGB")
    return complete


def open_clip_geometry(config: ViTConfig, given: Settings) -> Geometry:
    """Return OpenCLIP's resize and crop sizes; raise a BundleError for an unsupported `resize_mode`."""
    size, mode = pair("size", given.get("size") or config.image_hw), given["resize_mode"]
    if mode == "squash":
        return Geometry(resize=size, crop=size)
    if mode == "shortest" and size[0] == size[1]:
        return Geometry(resize=size[0], crop=size)
    raise BundleError(
        f"open_clip_config.json has resize_mode {mode!r} for images of {size[0]} × {size[1]}, which megavit does not "
        'support. Set "resize_mode": "squash" to use the full image, if that is good enough'
    )


def pixel_values(given: Settings, file: str) -> PixelValues:
    """Return timm's or OpenCLIP's normalization and interpolation; raise a BundleError for invalid values."""
    interpolation = given["interpolation"]
    if interpolation not in get_args(Interpolation):
        raise BundleError(
            f"{file} has interpolation {interpolation!r}; megavit supports "
            f"{' and '.join(get_args(Interpolation))}: set the closer of these, if that is good enough"
        )
    return PixelValues(
        mean=read_channels("mean", given["mean"]),
        std=read_channels("std", given["std"]),
        interpolation=interpolation,
    )


def _refuse_unknown(file: str, library: str, given: Settings, known: Any) -> None:
    if unknown := unknown_settings(given, known):
        raise BundleError(
            f"{file} has preprocessing settings of {library} that megavit does not support: {unknown}; if they do not "
            f"change pixels, remove them from {file}"
        )
