"""How another library prepares images, and what it calls its classes, as its settings files say."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from megavit.config.preprocessing import Preprocessing
from megavit.config.vit import ViTConfig
from megavit.errors import BundleError, ConfigError
from megavit.weights.pretrained.heads.class_names import unique
from megavit.weights.pretrained.processors import hf_processor, timm_data_config
from megavit.weights.pretrained.processors.preprocessing_in import Geometry, Values, preprocessing_for

TIMM_WRAPPER = "TimmWrapperImageProcessor"


def preprocessing_of(
    config: ViTConfig,
    settings: dict[str, Any],
    processor: dict[str, Any],
    *,
    open_clip: bool = False,
    whole_images: bool = False,
) -> Preprocessing | None:
    """Return how a model's images are prepared, as its settings say; None where they say nothing of it.

    Args:
        config: of the model.
        settings: config.json, or open_clip_config.json.
        processor: Hugging Face's image processor.
        open_clip: whether the weights are OpenCLIP's own, whose settings then go before a processor.
        whole_images: take from the settings what becomes of pixel values only: the image is not cut, as in training.

    Raises:
        BundleError: for a way that we do not have.
    """
    with usable("of how images are prepared"):
        if processor.get("image_processor_type") == TIMM_WRAPPER:
            processor = {}  # it reads config.json
        found = None
        if open_clip or not processor:
            found = _timm_or_open_clip(config, settings, whole_images=whole_images)
        if found is None and processor:
            given = hf_processor.complete(settings, processor)
            found = hf_processor.values(given), None if whole_images else hf_processor.geometry(given)
        return None if found is None else preprocessing_for(config, *found)


def _timm_or_open_clip(
    config: ViTConfig, settings: dict[str, Any], *, whole_images: bool
) -> tuple[Values, Geometry | None] | None:
    if (given := timm_data_config.timm_settings(settings)) is not None:
        model_args = settings.get("model_args") or {}
        geometry = None if whole_images else timm_data_config.timm_geometry(config, given, model_args)
        return timm_data_config.values(given, "config.json"), geometry
    if (given := timm_data_config.open_clip_settings(settings)) is not None:
        geometry = None if whole_images else timm_data_config.open_clip_geometry(config, given)
        return timm_data_config.values(given, "open_clip_config.json"), geometry
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


def labels_of(settings: dict[str, Any], num_classes: int) -> tuple[str, ...]:
    """Names of the classes, each another one: as the settings say, else "class 0" and so on.

    transformers writes no names where they are its own two, "LABEL_0" and "LABEL_1"; its settings have a `model_type`.
    """
    by_output, _ = _named_outputs(settings, num_classes)
    made_up = "LABEL_{}" if "model_type" in settings and not by_output else "class {}"
    names = [by_output.get(i, made_up.format(i)) for i in range(num_classes)]
    return unique(names)


def label_faults(settings: dict[str, Any], num_classes: int) -> list[str]:
    """Return sentences on outputs that the settings do not name, where they name any."""
    return _named_outputs(settings, num_classes)[1]


def _named_outputs(settings: dict[str, Any], num_classes: int) -> tuple[dict[int, str], list[str]]:
    """Return what timm or Hugging Face calls the outputs of a head, by their numbers, and sentences on gaps."""
    with usable("of its classes' names"):
        pretrained = settings.get("pretrained_cfg")
        places = (settings, pretrained if isinstance(pretrained, dict) else {})
        given = next((place["label_names"] for place in places if place.get("label_names")), None)
        given = given or settings.get("id2label") or settings.get("labels")
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
