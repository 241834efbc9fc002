"""Default settings of transformers' image processors."""

from collections.abc import Mapping
from typing import Any

BILINEAR, BICUBIC = 2, 3
HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def _defaults(resample: int, mean: tuple[float, ...], std: tuple[float, ...], size: dict[str, int], **more: Any) -> Any:
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


_CLIP = _defaults(BICUBIC, CLIP_MEAN, CLIP_STD, {"shortest_edge": 224}, do_center_crop=True, crop_size=_square(224))

DEFAULTS: Mapping[str, dict[str, Any]] = {
    "BeitImageProcessor": _defaults(BICUBIC, HALF, HALF, _square(224), crop_size=_square(224)),
    "BitImageProcessor": _CLIP,
    "BlipImageProcessor": _defaults(BICUBIC, CLIP_MEAN, CLIP_STD, _square(384)),
    "CLIPImageProcessor": {**_CLIP, "use_square_size": False},
    "ChineseCLIPImageProcessor": _CLIP,
    "ConvNextImageProcessor": _defaults(BICUBIC, HALF, HALF, {"shortest_edge": 384}, crop_pct=224 / 256),
    "DINOv3ViTImageProcessor": _defaults(BILINEAR, IMAGENET_MEAN, IMAGENET_STD, _square(224)),
    "DeiTImageProcessor": _defaults(BICUBIC, HALF, HALF, _square(256), do_center_crop=True, crop_size=_square(224)),
    "EfficientNetImageProcessor": _defaults(
        BICUBIC, HALF, HALF, _square(346), crop_size=_square(289), rescale_offset=False, include_top=True
    ),
    "OwlViTImageProcessor": _defaults(BICUBIC, CLIP_MEAN, CLIP_STD, _square(768), crop_size=_square(768)),
    "PvtImageProcessor": _defaults(BICUBIC, IMAGENET_MEAN, IMAGENET_STD, _square(224)),
    "SiglipImageProcessor": _defaults(BICUBIC, HALF, HALF, _square(224), default_to_square=False),
    "ViTImageProcessor": _defaults(BILINEAR, HALF, HALF, _square(224)),
}
"""Settings by `image_processor_type`, for classes that only resize, crop, rescale and normalize."""

_MODEL_TYPES = {
    "CLIPImageProcessor": "aimv2 aimv2_vision_model altclip clip git groupvit metaclip_2 mlcd xclip",
    "BeitImageProcessor": "beit data2vec-vision",
    "BlipImageProcessor": "blip blip-2",
    "ChineseCLIPImageProcessor": "chinese_clip",
    "ViTImageProcessor": "clipseg ijepa trocr vit vit_mae vit_msn",
    "DeiTImageProcessor": "deit",
    "BitImageProcessor": "dinov2 hiera pixio",
    "DINOv3ViTImageProcessor": "dinov3_vit",
    "OwlViTImageProcessor": "owlvit",
    "SiglipImageProcessor": "paligemma siglip",
}
BY_MODEL_TYPE: Mapping[str, str] = {name: kind for kind, names in _MODEL_TYPES.items() for name in names.split()}
"""Class that transformers uses by default for each `model_type`."""
