"""Read preprocessing from Hugging Face's preprocessor_config.json or processor_config.json."""

from collections.abc import Mapping
from typing import Any

from megavit.config.preprocessing import Interpolation
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.checkpoint_format import Settings
from megavit.weights.pretrained.processors.hf_defaults import BY_MODEL_TYPE, DEFAULTS
from megavit.weights.pretrained.processors.preprocessing_fields import (
    Geometry,
    PixelValues,
    read_channels,
    unknown_settings,
)
from megavit.weights.pretrained.settings_files import NESTED, PROCESSOR

# Pillow's filter numbers
FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
INTERPOLATIONS: Mapping[int, Interpolation] = {2: "bilinear", 3: "bicubic"}
SUPPORTED_SETTINGS = {
    "do_resize", "size", "default_to_square", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor",
    "do_normalize", "image_mean", "image_std", "do_pad", "pad_size",
}  # fmt: skip
# Settings that do not affect the pixels of an RGB image; megavit always converts to RGB on a white background.
NEUTRAL_SETTINGS = {
    "image_processor_type", "feature_extractor_type", "processor_class", "auto_map", "do_convert_rgb",
    "do_reduce_labels", "reduce_labels", "data_format", "input_data_format", "return_tensors", "device",
    "disable_grouping", "image_seq_length", "model_input_names", "_valid_processor_keys", "_valid_kwargs_names",
    "_processor_class", "transformers_version", "name_or_path", "_name_or_path",
}  # fmt: skip
ADVICE = f"change it in {PROCESSOR} (or {NESTED}) to what the model was trained with, or remove it"


def with_defaults(settings: Settings, given: Settings) -> dict[str, Any]:
    """Return the settings with the defaults of their class; raise a BundleError for an unknown class or setting."""
    kind = get_processor_class(settings, given)
    if kind not in DEFAULTS:
        raise BundleError(
            f"images are preprocessed by transformers' {kind}, which megavit does not support; it supports "
            f"{', '.join(DEFAULTS)}: if one of them does the same, set it as image_processor_type in {PROCESSOR}"
        )
    defaults = DEFAULTS[kind]
    known = SUPPORTED_SETTINGS | NEUTRAL_SETTINGS | defaults.keys()
    if unknown := unknown_settings(given, known):
        raise BundleError(
            f"transformers' {kind} has settings that megavit does not support: {unknown}; if they do not change "
            f"pixels, remove them from {PROCESSOR}"
        )
    return {**defaults, **given, "image_processor_type": kind}


def get_processor_class(settings: Settings, given: Settings) -> str:
    """Return the class name that transformers would use for the image processor, without "Fast" or "Pil"."""
    name = given.get("image_processor_type")
    if name is None and given.get("feature_extractor_type"):
        name = str(given["feature_extractor_type"]).replace("FeatureExtractor", "ImageProcessor")
    name = name or settings.get("image_processor_type") or BY_MODEL_TYPE.get(str(settings.get("model_type")))
    if not name:
        raise BundleError(
            f"{PROCESSOR} has no image_processor_type, and the model_type in config.json "
            f"({settings.get('model_type')!r}) does not imply one: set the one that the model was trained with, such "
            "as ViTImageProcessor"
        )
    return str(name).removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")


def pixel_values(given: Settings) -> PixelValues:
    """Return rescaling and normalization as one, and the interpolation; raise a BundleError for invalid values."""
    resample = given["resample"]
    if not isinstance(resample, int) or resample not in INTERPOLATIONS:
        name = f" ({FILTERS[resample]})" if isinstance(resample, int) and resample in FILTERS else ""
        raise BundleError(
            f"{PROCESSOR} has resample {resample!r}{name}; megavit supports 2 (bilinear) and 3 (bicubic): {ADVICE}"
        )
    factor = given["rescale_factor"] if given["do_rescale"] else 1
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < float("inf"):
        raise BundleError(f"{PROCESSOR} has rescale_factor {factor!r}, expected a number above 0: {ADVICE}")
    normalize = bool(given["do_normalize"])
    mean = read_channels("image_mean", given["image_mean"]) if normalize else 0.0
    std = read_channels("image_std", given["image_std"]) if normalize else 1.0
    # (value * factor - offset - mean) / std, as (value / 255 - mean') / std'.
    offset = 1 if given.get("rescale_offset") and given["do_rescale"] else 0
    scale = 255 * factor
    rescales_first = given["image_processor_type"] == "DINOv3ViTImageProcessor"
    if rescales_first and not given["do_rescale"]:
        raise BundleError(
            f"{PROCESSOR} has do_rescale {given['do_rescale']!r}, which DINOv3ViTImageProcessor does not support: "
            "set it to true"
        )
    extra_std = read_channels("image_std", given["image_std"]) if given.get("include_top") else 1.0
    return PixelValues(
        mean=_map(lambda value: (value + offset) / scale, mean),
        std=_product(_map(lambda value: value / scale, std), extra_std),
        interpolation=INTERPOLATIONS[resample],
        resize_dtype="float32" if rescales_first else "uint8",
    )


def geometry(given: Settings) -> Geometry:
    """Return the resize and crop sizes; raise a BundleError if megavit does not support them."""
    kind, pct = given["image_processor_type"], given.get("crop_pct")
    if not given["do_resize"]:
        raise BundleError(
            f"{PROCESSOR} has do_resize false, so every image keeps its size, but megavit resizes all to the model's: "
            "set it to true, and set size"
        )
    size = sides(given, "size", square=bool(given["default_to_square"]))
    if given.get("use_square_size"):
        size = {"height": 224, "width": 224}
    crop = _crop(given)
    if kind == "ConvNextImageProcessor":
        result = _conv_next(size, float(pct or 0), crop)
    elif size.keys() == {"height", "width"}:
        result = Geometry(resize=_pair(size), crop=crop or _pair(size), rounding="floor")
    elif size.keys() == {"shortest_edge"} and crop is not None:
        result = Geometry(resize=size["shortest_edge"], crop=crop, rounding="floor")
    else:
        raise BundleError(
            f"{PROCESSOR} has size {dict(size)}{'' if crop else ' and no center crop'}, so images of different "
            'shapes get different sizes, but megavit\'s model takes one: set "size": {"height": ..., "width": ...}, or '
            '"size": {"shortest_edge": ...} with "do_center_crop": true and a "crop_size"'
        )
    if given.get("do_pad") and given.get("pad_size") is not None:
        padded = _pair(sides(given, "pad_size", square=True))
        if padded != result.crop:
            raise BundleError(
                f"{PROCESSOR} pads images of {result.crop[0]} × {result.crop[1]} to {padded[0]} × {padded[1]}, which "
                'megavit does not support: set "do_pad": false'
            )
    return result


def _crop(given: Settings) -> tuple[int, int] | None:
    if not given["do_center_crop"]:
        return None
    if given.get("crop_size") is None:
        raise BundleError(f"{PROCESSOR} has do_center_crop true but no crop_size: set it to the model's image size")
    return _pair(sides(given, "crop_size", square=True))


def _conv_next(size: Mapping[str, int], pct: float, crop: tuple[int, int] | None) -> Geometry:
    """Return the geometry of ConvNextImageProcessor, which crops below 384 pixels, else squashes."""
    if size.keys() != {"shortest_edge"}:
        raise BundleError(
            f'{PROCESSOR} has size {dict(size)}; ConvNextImageProcessor requires {{"shortest_edge": ...}}: {ADVICE}'
        )
    edge = size["shortest_edge"]
    if crop not in (None, (edge, edge)):
        raise BundleError(
            f"{PROCESSOR} has do_center_crop true, but ConvNextImageProcessor already crops by crop_pct: set it "
            "to false"
        )
    if edge >= 384:
        return Geometry(resize=(edge, edge), crop=(edge, edge), rounding="floor")
    if not 0 < pct <= 1:
        raise BundleError(f"{PROCESSOR} has crop_pct {pct!r}, expected a number above 0 and at most 1: {ADVICE}")
    return Geometry(resize=int(edge / pct), crop=(edge, edge), rounding="floor")


def sides(given: Settings, name: str, *, square: bool) -> dict[str, int]:
    """Return a size as a dict of sides; a single number is both sides if `square`, else the shorter edge."""
    value = given[name]
    if isinstance(value, int) and not isinstance(value, bool):
        value = {"height": value, "width": value} if square else {"shortest_edge": value}
    elif isinstance(value, list | tuple) and len(value) == 2:
        value = {"height": value[0], "width": value[1]}
    found = {key: side for key, side in value.items() if side is not None} if isinstance(value, Mapping) else {}
    if not found or not all(
        isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in found.values()
    ):
        raise BundleError(f"{PROCESSOR} has {name} {value!r}, expected positive integers: {ADVICE}")
    return found


def _pair(size: Mapping[str, int]) -> tuple[int, int]:
    if size.keys() != {"height", "width"}:
        raise BundleError(f'{PROCESSOR} has a size {dict(size)}, expected {{"height": ..., "width": ...}}')
    return size["height"], size["width"]


Number = float | tuple[float, ...]


def _map(function: Any, number: Number) -> Number:
    return tuple(map(function, number)) if isinstance(number, tuple) else function(number)


def _product(a: Number, b: Number) -> Number:
    if not isinstance(a, tuple):
        return _map(lambda value: value * a, b)
    factors = b if isinstance(b, tuple) else (b,) * len(a)
    return tuple(x * y for x, y in zip(a, factors, strict=True))
