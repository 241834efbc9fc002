"""A peer's model beside ours with its weights: what each answers at every stage of the pass.

The stages are "patches", "block 0" and so on, "norm", "pooled" and "logits"; a peer that shows one of them nowhere
goes without it. Positions and other tokens enter between the patches and the first block.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from benchmarks.parity.hooks import flat, outputs, submodule
from megavit.model.vit import MegaVit
from megavit.weights.pretrained.mappings import (
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
from megavit.weights.pretrained.mappings.key_mapping import check_shapes, to_ours
from megavit.weights.pretrained.mappings.shapes import Known

Answers = Callable[[Any, Tensor], dict[str, Tensor]]
Said = Callable[[Any], Known]


@dataclass(frozen=True)
class Family:
    """One layout of a peer: its key table, and where its models show their stages.

    Attributes:
        peer: the module in `megavit.weights.peers`.
        said: model to what the settings beside its file say, or else its user must.
        patches: how the name of the module that embeds patches ends.
        layers: the same of the list of layers. Where these are lists themselves, of parts that the model adds up,
            what a layer answers is what the next one's first part takes, and after the last the norm.
        norms: the same of the last norm, the first that is not empty.
        answers: (model, images) to "pooled" and, where there is a head, "logits".
    """

    peer: Any
    said: Said
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


def answers_at(head: str) -> Answers:
    """Where the pooled answer is what the module called `head` takes."""

    def answers(model: Any, images: Tensor) -> dict[str, Tensor]:
        taken, logits = outputs({}, lambda: model(images), taken_by={"pooled": model.get_submodule(head)})
        return {"pooled": taken["pooled"], "logits": logits}

    return answers


def open_clip_answers(model: Any, images: Tensor) -> dict[str, Tensor]:
    """Of a tower that pools by its class token."""
    seen, logits = outputs({"norm": model.ln_post}, lambda: model(images))
    return {"pooled": seen["norm"][:, 0], "logits": logits}


def timm_said(theirs: Any) -> Known:
    architecture = getattr(theirs, "pretrained_cfg", {}).get("architecture")
    told = {"architecture": architecture, "global_pool": theirs.global_pool}
    return timm_names.known(told | {"model_args": getattr(theirs, "_model_args", {})})  # as timm itself records them


def simple_vit_said(theirs: Any) -> Known:
    """The size of square images, of which their file has no trace."""
    side = math.isqrt(len(theirs.pos_embedding))
    return {"image_size": tuple(side * patch for patch in theirs.patch_size)}


def nothing_said(_: Any) -> Known:
    return {}


def of_timm(peer: Any) -> Family:
    return Family(peer, timm_said, "patch_embed", "blocks", ("norm", "fc_norm"), timm_answers)


def of_hugging_face(peer: Any, patches: str, layers: str, norm: str) -> Family:
    return Family(
        peer, lambda theirs: peer.known(theirs.config.to_dict()), patches, layers, (norm,), hugging_face_answers
    )


def of_vit_pytorch(peer: Any, said: Said, head: str) -> Family:
    return Family(peer, said, "to_patch_embedding", "transformer.layers", ("transformer.norm",), answers_at(head))


FAMILIES = {
    "timm ViT": of_timm(timm_vit),
    "timm parallel": of_timm(timm_parallel),
    "timm Perception Encoder": of_timm(timm_pe),
    "timm DINOv3": of_timm(timm_eva),
    "timm rotary": of_timm(timm_eva),
    "timm EVA-02": of_timm(timm_eva02),
    "timm EVA-02 large": of_timm(timm_eva02_large),
    "Hugging Face ViT": of_hugging_face(hf_vit, "patch_embeddings.projection", "layers", "layernorm"),
    "Hugging Face DINOv2": of_hugging_face(hf_dinov2, "patch_embeddings.projection", "encoder.layer", "layernorm"),
    "Hugging Face DINOv3": of_hugging_face(hf_dinov3, "patch_embeddings", "model.layer", "norm"),
    "Hugging Face CLIP": of_hugging_face(hf_clip, "patch_embedding", "encoder.layers", "post_layernorm"),
    "torchvision": Family(
        torchvision_vit, nothing_said, "conv_proj", "encoder.layers", ("encoder.ln",), answers_at("heads")
    ),
    "OpenCLIP": Family(
        open_clip_vit,
        lambda theirs: open_clip_vit.known(theirs.settings),
        "conv1",
        "transformer.resblocks",
        ("ln_post",),
        open_clip_answers,
    ),
    "vit-pytorch": of_vit_pytorch(vit_pytorch_vit, nothing_said, "mlp_head"),
    "vit-pytorch SimpleViT": of_vit_pytorch(vit_pytorch_simple, simple_vit_said, "linear_head"),
    "zetascale": of_vit_pytorch(zeta_vit, nothing_said, "mlp_head"),
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


def ours_of(family: Family, theirs: nn.Module) -> MegaVit:
    """Our model with their weights."""
    peer, known = family.peer, family.said(theirs)
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
    layers = list(submodule(theirs, family.layers).children())
    norms = (submodule(theirs, name) for name in family.norms)
    norm = next(norm for norm in norms if not isinstance(norm, nn.Identity))
    watched, taken_by = {"patches": submodule(theirs, family.patches), "norm": norm}, {}
    if isinstance(layers[0], nn.ModuleList):
        parts = [*(next(layer.children()) for layer in layers[1:]), norm]
        taken_by = {f"block {i}": part for i, part in enumerate(parts)}
    else:
        watched |= {f"block {i}": layer for i, layer in enumerate(layers)}
    seen, answers = outputs(watched, lambda: family.answers(theirs, images), taken_by)
    width = answers["pooled"].shape[-1] if "pooled" in answers else seen["block 0"].shape[-1]
    seen["patches"] = flat(seen["patches"], width)
    return seen | answers
