"""Read the preprocessing of another library's model from its settings files."""

from typing import Any

from megavit.config.preprocessing import Preprocessing
from megavit.config.vit import ViTConfig
from megavit.weights.pretrained.processors import hf_processor, timm_data_config
from megavit.weights.pretrained.processors.preprocessing_fields import Geometry, PixelValues, make_preprocessing
from megavit.weights.pretrained.settings_files import valid_settings

TIMM_WRAPPER = "TimmWrapperImageProcessor"


def read_preprocessing(
    config: ViTConfig,
    settings: dict[str, Any],
    processor: dict[str, Any],
    *,
    open_clip: bool = False,
    pixel_values_only: bool = False,
) -> Preprocessing | None:
    """Return the preprocessing of a model's images, or None if its settings do not define it.

    Args:
        settings: contents of config.json or open_clip_config.json.
        processor: settings of Hugging Face's image processor.
        open_clip: whether the weights are OpenCLIP's, whose settings then take precedence over `processor`.
        pixel_values_only: whether to read only the pixel values, without resizing and cropping, as for training.

    Raises:
        BundleError: if megavit does not support the preprocessing.
    """
    with valid_settings("preprocessing"):
        if processor.get("image_processor_type") == TIMM_WRAPPER:
            processor = {}  # it reads config.json
        fields = None
        if open_clip or not processor:
            fields = _timm_or_open_clip(config, settings, pixel_values_only=pixel_values_only)
        if fields is None and processor:
            complete = hf_processor.with_defaults(settings, processor)
            fields = hf_processor.pixel_values(complete), None if pixel_values_only else hf_processor.geometry(complete)
        return None if fields is None else make_preprocessing(config, *fields)


def _timm_or_open_clip(
    config: ViTConfig, settings: dict[str, Any], *, pixel_values_only: bool
) -> tuple[PixelValues, Geometry | None] | None:
    if (data_config := timm_data_config.timm_settings(settings)) is not None:
        model_args = settings.get("model_args") or {}
        geometry = None if pixel_values_only else timm_data_config.timm_geometry(config, data_config, model_args)
        return timm_data_config.pixel_values(data_config, "config.json"), geometry
    if (data_config := timm_data_config.open_clip_settings(settings)) is not None:
        geometry = None if pixel_values_only else timm_data_config.open_clip_geometry(config, data_config)
        return timm_data_config.pixel_values(data_config, "open_clip_config.json"), geometry
    return None
