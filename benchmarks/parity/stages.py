"""A peer's model beside ours with its weights: what each answers at every stage of the pass.

The stages are "patches", "block 0" and so on, "norm", "pooled" and "logits"; a peer that shows one of them nowhere
goes without it. Positions and other tokens enter between the patches and the first block.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from megavit.model.vit import MegaVit
from megavit.weights.keys import check_shapes, to_ours
from megavit.weights.peers import (
    hf_clip,
    hf_dinov2,
    hf_dinov3,
    hf_vit,
    timm_eva,
    timm_eva02,
    timm_eva02_large,
    timm_names,
    timm_vit,
)

Answers = Callable[[Any, Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Family:
    """One layout of a peer: its key table, and where its models show their stages.

    Attributes:
        peer: the module in `megavit.weights.peers`.
        patches: how the name of the module that embeds patches ends.
        layers: the same of the list of layers.
        norms: the same of the last norm, the first that is not empty.
        answers: (model, images) to "pooled" and, where there is a head, "logits".
    """

    peer: Any
    patches: str
    layers: str
    norms: tuple[str, ...]
    answers: Answers


def timm_answers(model: Any, images: Tensor) -> dict[str, Tensor]:
    features = model.forward_features(images)
    pooled = {"pooled": model.forward_head(features, pre_logits=True)}
    return pooled | {"logits": model.forward_head(features)} if model.num_classes else pooled


def hugging_face_answers(model: Any, images: Tensor) -> dict[str, Tensor]:
    """Where their model has no pooled answer of its own: the class token, or the mean where there is none."""
    arguments: dict[str, Any] = {}
    if model.config.model_type == "vit_mae":  # shuffles its patches by the noise
        count = (images.shape[2] // model.config.patch_size) * (images.shape[3] // model.config.patch_size)
        arguments["noise"] = torch.arange(count).expand(len(images), -1).float()
    output = model(images, **arguments)
    if "logits" in output:
        return {"logits": output.logits}
    if "image_embeds" in output:
        return {"logits": output.image_embeds}
    if model.config.model_type in ("vit", "deit", "vit_mae", "vit_msn"):
        return {"pooled": output.last_hidden_state[:, 0]}
    if model.config.model_type == "ijepa" or not getattr(model.config, "vision_use_head", True):
        return {"pooled": output.last_hidden_state.mean(dim=1)}
    return {"pooled": output.pooler_output}


FAMILIES = {
    "timm ViT": Family(timm_vit, "patch_embed", "blocks", ("norm", "fc_norm"), timm_answers),
    "timm DINOv3": Family(timm_eva, "patch_embed", "blocks", ("norm", "fc_norm"), timm_answers),
    "timm EVA-02": Family(timm_eva02, "patch_embed", "blocks", ("norm", "fc_norm"), timm_answers),
    "timm EVA-02 large": Family(timm_eva02_large, "patch_embed", "blocks", ("norm", "fc_norm"), timm_answers),
    "Hugging Face ViT": Family(hf_vit, "patch_embeddings.projection", "layers", ("layernorm",), hugging_face_answers),
    "Hugging Face DINOv2": Family(
        hf_dinov2, "patch_embeddings.projection", "encoder.layer", ("layernorm",), hugging_face_answers
    ),
    "Hugging Face DINOv3": Family(hf_dinov3, "patch_embeddings", "model.layer", ("norm",), hugging_face_answers),
    "Hugging Face CLIP": Family(
        hf_clip, "patch_embedding", "encoder.layers", ("post_layernorm",), hugging_face_answers
    ),
}


@torch.no_grad()
def shaken(module: nn.Module, by: float = 0.1) -> None:
    """Move every parameter away from its initial value: norms, biases, positions and scales too."""
    for parameter in module.parameters():
        parameter.add_(by * torch.randn_like(parameter))


def file_tensors(theirs: nn.Module) -> dict[str, Tensor]:
    """What their own `save` writes: for Hugging Face other names than those of the modules."""
    state = theirs.state_dict()
    return revert_weight_conversion(theirs, state) if isinstance(theirs, PreTrainedModel) else state


def table_tensors(peer: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file of theirs by the names of the peer's table."""
    if not hasattr(peer, "names"):
        return dict(tensors)
    return {name: tensors[found] for found, name in peer.names(tensors).items()}


def said(peer: Any, theirs: nn.Module) -> Mapping[str, Any]:
    """What the config.json beside their file says."""
    if isinstance(theirs, PreTrainedModel):
        return peer.known(theirs.config.to_dict())
    model: Any = theirs
    architecture = getattr(model, "pretrained_cfg", {}).get("architecture")
    return timm_names.known({"architecture": architecture, "global_pool": model.global_pool})


def ours_of(peer: Any, theirs: nn.Module) -> MegaVit:
    """Our model with their weights."""
    known = said(peer, theirs)
    tensors = table_tensors(peer, file_tensors(theirs))
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    config = peer.config_of(shapes, known)
    rules = peer.table(config)
    check_shapes(rules, shapes, type(theirs).__name__)
    with torch.device("meta"):  # the largest would not be in memory three times
        ours = MegaVit.from_config(config).eval()
    ours.load_state_dict(to_ours(rules, tensors, config), assign=True)
    return ours


@torch.no_grad()
def our_stages(ours: MegaVit, images: Tensor) -> dict[str, Tensor]:
    layers = dict(enumerate(ours.transformer.layers))
    watched = {"patches": ours.patch_embedding} | {f"block {i}": layer for i, layer in layers.items()}
    watched["norm"] = ours.norm
    seen, features = outputs(watched, lambda: ours.features(images))
    seen["pooled"] = features.pooled
    if ours.config.num_classes:
        seen["logits"] = ours.mlp_head(features.pooled)
    return seen


@torch.no_grad()
def their_stages(family: Family, theirs: nn.Module, images: Tensor) -> dict[str, Tensor]:
    layers = submodule(theirs, family.layers)
    watched = {"patches": submodule(theirs, family.patches)}
    watched |= {f"block {i}": layer for i, layer in enumerate(layers.children())}
    norms = (submodule(theirs, name) for name in family.norms)
    watched["norm"] = next(norm for norm in norms if not isinstance(norm, nn.Identity))
    seen, answers = outputs(watched, lambda: family.answers(theirs, images))
    width = answers["pooled"].shape[-1] if "pooled" in answers else seen["block 0"].shape[-1]
    seen["patches"] = flat(seen["patches"], width)
    return seen | answers


def outputs(modules: Mapping[str, nn.Module], run: Callable[[], Any]) -> tuple[dict[str, Tensor], Any]:
    """What each of `modules` answers in `run`, in the order of the pass, and what `run` answers."""
    seen: dict[str, Tensor] = {}

    def keep(stage: str, output: Any) -> None:
        seen[stage] = output[0] if isinstance(output, tuple) else output

    hooks = [
        module.register_forward_hook(lambda _, __, output, stage=stage: keep(stage, output))
        for stage, module in modules.items()
    ]
    try:
        return seen, run()
    finally:
        for hook in hooks:
            hook.remove()


def submodule(module: nn.Module, suffix: str) -> nn.Module:
    """The part of `module` whose name is `suffix`, or else the first whose name ends in it after a dot."""
    parts = dict(module.named_modules())
    return parts.get(suffix) or next(part for name, part in parts.items() if name.endswith(f".{suffix}"))


def flat(patches: Tensor, width: int) -> Tensor:
    """(B, D, rows, columns), (B, rows, columns, D) or (B, N, D) as (B, N, D)."""
    if patches.ndim == 3:
        return patches
    return patches.flatten(1, 2) if patches.shape[-1] == width else patches.flatten(2).transpose(1, 2)
