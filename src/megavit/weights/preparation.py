"""How another library prepares images, and what it calls its classes, as its settings files say."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from megavit.config.preprocessing import Preprocessing
from megavit.config.vit import ViTConfig
from megavit.errors import BundleError, ConfigError
from megavit.weights import hf_processor, timm_data_config
from megavit.weights.preprocessing_in import Geometry, Values, preprocessing_for

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
    """Names of the classes, each another one: as the settings say, else "class 0" and so on."""
    with usable("of its classes' names"):
        given = _named_outputs(settings)
        fits = isinstance(given, dict) or len(given) == num_classes
        by_output = dict(_by_number(given)) if fits else {}
    if not by_output.keys() <= set(range(num_classes)):
        by_output = {}
    names = [by_output.get(i, f"class {i}") for i in range(num_classes)]
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(unique)


def label_faults(settings: dict[str, Any], num_classes: int) -> list[str]:
    """Return sentences on outputs that the settings do not name, where they name any."""
    with usable("of its classes' names"):
        given = _named_outputs(settings)
        numbers = [number for number, _ in _by_number(given)]
    if not numbers or sorted(numbers) == list(range(num_classes)):
        return []
    if not set(numbers) <= set(range(num_classes)) or not isinstance(given, dict):
        return [
            f"the settings name {len(numbers)} classes, up to number {max(numbers)}, and the head has {num_classes} "
            "outputs: none of the names was taken, as they may be of other outputs"
        ]
    return [f"the settings name {len(numbers)} of the {num_classes} outputs; the others are called by their number"]


def _named_outputs(settings: dict[str, Any]) -> dict[Any, Any] | list[Any]:
    """What timm or Hugging Face calls the outputs of a head: a list, or a table by their numbers, as text in JSON."""
    pretrained = settings.get("pretrained_cfg")
    places = (settings, pretrained if isinstance(pretrained, dict) else {})
    found = next((place["label_names"] for place in places if place.get("label_names")), None)
    found = found or settings.get("id2label") or settings.get("labels")
    return found if isinstance(found, dict) else list(found or ())


def _by_number(given: dict[Any, Any] | list[Any]) -> list[tuple[int, str]]:
    pairs = given.items() if isinstance(given, dict) else enumerate(given)
    return [(int(number), str(name)) for number, name in pairs]
