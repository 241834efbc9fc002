"""Every layout of a checkpoint that can be read, a row a layout; `megavit.weights.peers` explains the columns."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings import (
    big_vision,
    dinov2_vit,
    dinov3_vit,
    hf_clip,
    hf_dinov2,
    hf_dinov3,
    hf_vit,
    open_clip_vit,
    timm_eva,
    timm_eva02,
    timm_eva02_large,
    timm_names,
    timm_parallel,
    timm_pe,
    timm_vit,
    torchvision_vit,
    vit_pytorch_simple,
    vit_pytorch_vit,
    zeta_vit,
)
from megavit.weights.pretrained.mappings.hugging_face import refusal
from megavit.weights.pretrained.mappings.key_mapping import Rule, Shapes
from megavit.weights.pretrained.mappings.shapes import Known, untold

Names = Callable[[Iterable[str]], dict[str, str]]
Tidy = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class CheckpointFormat:
    """How one library names the tensors of a Vision Transformer, and what its settings say.

    `head` is the module of its classifier; "" where it has none, or none that can be replaced.
    """

    name: str
    told_by: frozenset[str]
    config_of: Callable[[Shapes, Known], ViTConfig]
    table: Callable[[ViTConfig], list[Rule]]
    names: Names
    tidy: Tidy
    known: Callable[[dict[str, Any]], Known]
    assumed: Callable[[ViTConfig], dict[str, Any]]
    head: str


HEADS = {
    "timm": "head",
    "timm's parallel blocks": "head",
    "timm, with attention pooling": "head",
    "timm's Eva": "head",
    "timm's EVA-02": "head",
    "timm's EVA-02, large": "head",
    "Hugging Face's ViT": "classifier",
    "torchvision": "heads.head",
    "vit-pytorch": "mlp_head",
    "vit-pytorch's SimpleViT": "linear_head",
    "zeta": "mlp_head",
}


def layout(name: str, peer: ModuleType, known: Callable[[dict[str, Any]], Known] | None = None) -> CheckpointFormat:
    """The row of a file of `megavit.weights.peers`, which need not have all of them."""
    own = vars(peer)
    return CheckpointFormat(
        name,
        frozenset(peer.TOLD_BY),
        peer.config_of,
        peer.table,
        own.get("names", lambda found: {one: one for one in found}),
        own.get("tidy", dict),
        known or own.get("known", lambda _: {}),
        own.get("assumed", untold),
        HEADS.get(name, ""),
    )


FORMATS = (
    layout("timm", timm_vit, timm_names.known),
    layout("timm's parallel blocks", timm_parallel, timm_names.known),
    layout("timm, with attention pooling", timm_pe, timm_names.known),
    layout("timm's Eva", timm_eva, timm_names.known),
    layout("timm's EVA-02", timm_eva02, timm_names.known),
    layout("timm's EVA-02, large", timm_eva02_large, timm_names.known),
    layout("Hugging Face's ViT", hf_vit),
    layout("Hugging Face's DINOv2", hf_dinov2),
    layout("Hugging Face's DINOv3", hf_dinov3),
    layout("Hugging Face's CLIP and SigLIP", hf_clip),
    layout("torchvision", torchvision_vit),
    layout("vit-pytorch", vit_pytorch_vit),
    layout("vit-pytorch's SimpleViT", vit_pytorch_simple),
    layout("zeta", zeta_vit),
    layout("OpenCLIP", open_clip_vit),
    layout("DINOv2", dinov2_vit),
    layout("DINOv3", dinov3_vit),
    layout("big_vision", big_vision),
)

# transformers' name for models of timm, whose config.json has timm's settings too.
TIMM_WRAPPER = "timm_wrapper"


def check_type(settings: Mapping[str, Any]) -> None:
    """Raise a BundleError when settings are of a model of transformers that no layout here is for."""
    read = [name for peer in (hf_vit, hf_dinov2, hf_dinov3, hf_clip) for name in peer.TYPES]
    name = settings.get("model_type")
    if isinstance(name, str) and name not in (*read, TIMM_WRAPPER):
        raise BundleError(refusal(name, read))
