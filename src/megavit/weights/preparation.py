"""How another library prepares images, and what it calls its classes, as its settings files say."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from megavit.config.preprocessing import Interpolation, Preprocessing
from megavit.config.vit import Size, ViTConfig
from megavit.errors import BundleError, ConfigError

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
    """Names of the classes, each another one: as the settings say, else "class 0" and so on.

    transformers writes no names where they are its own two, "LABEL_0" and "LABEL_1"; its settings have a `model_type`.
    """
    by_output, _ = _named_outputs(settings, num_classes)
    made_up = "LABEL_{}" if "model_type" in settings and not by_output else "class {}"
    names = [by_output.get(i, made_up.format(i)) for i in range(num_classes)]
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(unique)


def label_faults(settings: dict[str, Any], num_classes: int) -> list[str]:
    """Return sentences on outputs that the settings do not name, where they name any."""
    return _named_outputs(settings, num_classes)[1]


def _named_outputs(settings: dict[str, Any], num_classes: int) -> tuple[dict[int, str], list[str]]:
    """Return what timm or Hugging Face calls the outputs of a head, by their numbers, and sentences on gaps."""
    with usable("of its classes' names"):
        pretrained = settings.get("pretrained_cfg")
        places = (settings, pretrained if isinstance(pretrained, dict) else {})
        given = next((place["label_names"] for place in places if place.get("label_names")), settings.get("id2label"))
        # A list, or a table by the numbers of the outputs, as text in JSON, which may leave some out.
        pairs = given.items() if isinstance(given, dict) else enumerate(given or ())
        named = {int(number): str(name) for number, name in pairs}
    if not named or not num_classes or named.keys() == set(range(num_classes)):
        return named, []
    if all(name == f"LABEL_{number}" for number, name in named.items()):
        return {}, []  # made up by transformers for a head of its own
    if isinstance(given, dict) and named.keys() < set(range(num_classes)):
        return named, [f"the settings name {len(named)} of the {num_classes} outputs; the others are called by number"]
    return {}, [
        f"the settings name {len(named)} classes, up to number {max(named)}, and the head has {num_classes} outputs: "
        "none of the names was taken, as they may be of other outputs"
    ]
