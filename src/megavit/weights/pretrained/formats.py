"""The registry of supported checkpoint formats."""

from collections.abc import Mapping, Sequence
from typing import Any

from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.big_vision import BIG_VISION
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat
from megavit.weights.pretrained.mappings.dinov2 import DINOV2
from megavit.weights.pretrained.mappings.dinov3 import DINOV3
from megavit.weights.pretrained.mappings.hf_clip import HF_CLIP
from megavit.weights.pretrained.mappings.hf_dinov2 import HF_DINOV2
from megavit.weights.pretrained.mappings.hf_dinov3 import HF_DINOV3
from megavit.weights.pretrained.mappings.hf_vit import HF_VIT
from megavit.weights.pretrained.mappings.hugging_face import unsupported_type
from megavit.weights.pretrained.mappings.open_clip import OPEN_CLIP
from megavit.weights.pretrained.mappings.timm_eva import EVA, EVA02, EVA02_LARGE, PERCEPTION
from megavit.weights.pretrained.mappings.timm_vit import TIMM_PARALLEL, TIMM_VIT
from megavit.weights.pretrained.mappings.torchvision import TORCHVISION
from megavit.weights.pretrained.mappings.vit_pytorch import SIMPLE_VIT, VIT_PYTORCH
from megavit.weights.pretrained.mappings.zetascale import ZETASCALE

FORMATS = (
    TIMM_VIT,
    TIMM_PARALLEL,
    PERCEPTION,
    EVA,
    EVA02,
    EVA02_LARGE,
    HF_VIT,
    HF_DINOV2,
    HF_DINOV3,
    HF_CLIP,
    TORCHVISION,
    VIT_PYTORCH,
    SIMPLE_VIT,
    ZETASCALE,
    OPEN_CLIP,
    DINOV2,
    DINOV3,
    BIG_VISION,
)

# transformers' model_type for timm models, whose config.json has timm's settings too.
TIMM_WRAPPER = "timm_wrapper"


def detect_format(names: Sequence[str]) -> CheckpointFormat | None:
    """Return the format with the longest signature among the tensor names, or None."""
    matching = []
    for checkpoint_format in FORMATS:
        try:
            if set(checkpoint_format.signature) <= set(checkpoint_format.names(names).values()):
                matching.append(checkpoint_format)
        except BundleError:  # two names for one tensor
            continue
    return max(matching, key=lambda checkpoint_format: len(checkpoint_format.signature), default=None)


def check_model_type(settings: Mapping[str, Any]) -> None:
    """Raise a BundleError if the settings name a transformers model that no format supports."""
    types = [name for checkpoint_format in FORMATS for name in checkpoint_format.model_types]
    name = settings.get("model_type")
    if isinstance(name, str) and name not in (*types, TIMM_WRAPPER):
        raise BundleError(unsupported_type(name, types))
