"""How another library prepares images, and what it calls its classes, as its settings files say."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from megavit.config.preprocessing import Interpolation, Preprocessing
from megavit.config.vit import Size, ViTConfig
from megavit.errors import BundleError, ConfigError
from megavit.weights.class_names import unique

PROCESSOR = "preprocessor_config.json"
# Pillow's numbers, as Hugging Face writes them.
PILLOW: dict[Any, Interpolation] = {2: "bilinear", 3: "bicubic"}


def preprocessing_of(config: ViTConfig, settings: dict[str, Any], processor: dict[str, Any]) -> Preprocessing | None:
    """As the settings say; None where they say nothing of it.

    Args:
        config: of the model.
        settings: timm's config.json, or open_clip_config.json.
        processor: Hugging Face's preprocessor_config.json.

    Raises:
        BundleError: for a way that we do not have.
    """
    with usable("of how images are prepared"):
        if processor.get("image_mean"):
            return _hugging_face(config, processor)
        if (settings.get("pretrained_cfg") or {}).get("mean"):
            return _timm(config, settings["pretrained_cfg"])
        if (settings.get("preprocess_cfg") or {}).get("mean"):
            return _open_clip(config, settings["preprocess_cfg"])
    return None


@contextmanager
def usable(what: str) -> Iterator[None]:
    """Turn whatever a settings file of another library's that is not as it should be leads to into a BundleError."""
    try:
        yield
    except BundleError:
        raise
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        told = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
        raise BundleError(f"the model's settings {what} cannot be used, as in its JSON files: {told}") from None


def _timm(config: ViTConfig, given: dict[str, Any]) -> Preprocessing:
    crop, mode = given.get("crop_pct") or 0.875, given.get("crop_mode") or "center"
    height, width = config.image_hw
    before = math.floor(height / crop), math.floor(width / crop)
    if mode == "squash":
        resize: Size | None = None if crop == 1 else before
    elif mode == "center" and height == width:
        resize = before[0]
    else:
        raise BundleError(f"timm's crop_mode {mode!r} for images of {height} × {width} is not known here")
    return _prepared(config, given["mean"], given["std"], given.get("interpolation", "bicubic"), resize)


def _hugging_face(config: ViTConfig, given: dict[str, Any]) -> Preprocessing:
    size, crop = given.get("size") or {}, given.get("crop_size") or {}
    interpolation = PILLOW.get(given.get("resample", 2))
    if interpolation is None:
        raise BundleError(f"{PROCESSOR} has resample {given['resample']!r}; here are 2 (bilinear) and 3 (bicubic)")
    height, width = config.image_hw
    cropped = given.get("do_center_crop", False) and crop
    if isinstance(size, int):
        size = {"shortest_edge": size} if cropped else {"height": size, "width": size}
    if cropped and isinstance(crop, dict) and (crop.get("height"), crop.get("width")) != (height, width):
        # Positions are resampled when such an image comes; here the model is made for the size it is given.
        height, width = crop["height"], crop["width"]
    resize: Size | None = size.get("shortest_edge")
    if resize is None and cropped:
        resize = (size["height"], size["width"])
    if not cropped:
        if resize is not None:
            raise BundleError(f"{PROCESSOR} keeps an image's shape and cuts nothing; give --keep-aspect instead")
        height, width = size.get("height", height), size.get("width", width)
    return _prepared(config, given["image_mean"], given["image_std"], interpolation, resize, (height, width))


def _open_clip(config: ViTConfig, given: dict[str, Any]) -> Preprocessing:
    mode, (height, width) = given.get("resize_mode", "shortest"), config.image_hw
    if mode == "longest" or (mode == "shortest" and height != width):
        raise BundleError(f"OpenCLIP's resize_mode {mode!r} for images of {height} × {width} is not known here")
    resize = height if mode == "shortest" else None
    return _prepared(config, given["mean"], given["std"], given.get("interpolation", "bicubic"), resize)


def _prepared(
    config: ViTConfig,
    mean: list[float],
    std: list[float],
    interpolation: Any,
    resize: Size | None,
    size: tuple[int, int] | None = None,
) -> Preprocessing:
    height, width = size or config.image_hw
    return Preprocessing(
        height=height,
        width=width,
        channels=config.channels,
        mean=tuple(mean),
        std=tuple(std),
        interpolation=interpolation,
        resize=resize,
        patch_size=config.patch_size,
    )


def labels_of(settings: dict[str, Any], num_classes: int) -> tuple[str, ...]:
    """Names of the classes, each another one: as the settings say, else "class 0" and so on."""
    with usable("of its classes' names"):
        given = settings.get("label_names") or settings.get("id2label") or ()
        if isinstance(given, dict):
            given = [given[key] for key in sorted(given, key=int)]
        names = [str(name) for name in given] if len(given) == num_classes else []
    names = names or [f"class {i}" for i in range(num_classes)]
    return unique(names)
