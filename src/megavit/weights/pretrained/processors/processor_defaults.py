"""What Hugging Face's image processors do where their settings file is silent, as their classes in transformers say."""

from collections.abc import Mapping
from typing import Any

BILINEAR, BICUBIC = 2, 3
HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def _of(resample: int, mean: tuple[float, ...], std: tuple[float, ...], size: dict[str, int], **more: Any) -> Any:
    return {
        "do_resize": True,
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "resample": resample,
        "image_mean": mean,
        "image_std": std,
        "size": size,
        "default_to_square": "shortest_edge" not in size,
        **more,
    }


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


_CLIP = _of(BICUBIC, CLIP_MEAN, CLIP_STD, {"shortest_edge": 224}, do_center_crop=True, crop_size=_square(224))

DEFAULTS: Mapping[str, dict[str, Any]] = {
    "BeitImageProcessor": _of(BICUBIC, HALF, HALF, _square(224), crop_size=_square(224)),
    "BitImageProcessor": _CLIP,
    "BlipImageProcessor": _of(BICUBIC, CLIP_MEAN, CLIP_STD, _square(384)),
    "CLIPImageProcessor": {**_CLIP, "use_square_size": False},
    "ChineseCLIPImageProcessor": _CLIP,
    "ConvNextImageProcessor": _of(BICUBIC, HALF, HALF, {"shortest_edge": 384}, crop_pct=224 / 256),
    "DINOv3ViTImageProcessor": _of(BILINEAR, IMAGENET_MEAN, IMAGENET_STD, _square(224)),
    "DeiTImageProcessor": _of(BICUBIC, HALF, HALF, _square(256), do_center_crop=True, crop_size=_square(224)),
    "EfficientNetImageProcessor": _of(
        BICUBIC, HALF, HALF, _square(346), crop_size=_square(289), rescale_offset=False, include_top=True
    ),
    "OwlViTImageProcessor": _of(BICUBIC, CLIP_MEAN, CLIP_STD, _square(768), crop_size=_square(768)),
    "PvtImageProcessor": _of(BICUBIC, IMAGENET_MEAN, IMAGENET_STD, _square(224)),
    "SiglipImageProcessor": _of(BICUBIC, HALF, HALF, _square(224), default_to_square=False),
    "ViTImageProcessor": _of(BILINEAR, HALF, HALF, _square(224)),
}
"""By `image_processor_type`. Of all classes there, those that resize, cut and normalize as this says, and no more."""

BY_MODEL_TYPE: Mapping[str, str] = {
    "aimv2": "CLIPImageProcessor",
    "aimv2_vision_model": "CLIPImageProcessor",
    "altclip": "CLIPImageProcessor",
    "beit": "BeitImageProcessor",
    "blip": "BlipImageProcessor",
    "blip-2": "BlipImageProcessor",
    "chinese_clip": "ChineseCLIPImageProcessor",
    "clip": "CLIPImageProcessor",
    "clipseg": "ViTImageProcessor",
    "data2vec-vision": "BeitImageProcessor",
    "deit": "DeiTImageProcessor",
    "dinov2": "BitImageProcessor",
    "dinov3_vit": "DINOv3ViTImageProcessor",
    "git": "CLIPImageProcessor",
    "groupvit": "CLIPImageProcessor",
    "hiera": "BitImageProcessor",
    "ijepa": "ViTImageProcessor",
    "metaclip_2": "CLIPImageProcessor",
    "mlcd": "CLIPImageProcessor",
    "owlvit": "OwlViTImageProcessor",
    "paligemma": "SiglipImageProcessor",
    "pixio": "BitImageProcessor",
    "siglip": "SiglipImageProcessor",
    "trocr": "ViTImageProcessor",
    "vit": "ViTImageProcessor",
    "vit_mae": "ViTImageProcessor",
    "vit_msn": "ViTImageProcessor",
    "xclip": "CLIPImageProcessor",
}
"""The class that transformers takes where the file names none, by the `model_type` of config.json."""
