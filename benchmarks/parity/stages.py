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
from megavit.weights.pretrained.mappings.config_from_shapes import Overrides
from megavit.weights.pretrained.mappings.hf_clip import HF_CLIP
from megavit.weights.pretrained.mappings.hf_dinov2 import HF_DINOV2
from megavit.weights.pretrained.mappings.hf_dinov3 import HF_DINOV3
from megavit.weights.pretrained.mappings.hf_vit import HF_VIT
from megavit.weights.pretrained.mappings.key_mapping import check_shapes, to_ours
from megavit.weights.pretrained.mappings.open_clip import OPEN_CLIP
from megavit.weights.pretrained.mappings.timm_eva import EVA, EVA02, EVA02_LARGE, PERCEPTION
from megavit.weights.pretrained.mappings.timm_settings import read_timm_settings
from megavit.weights.pretrained.mappings.timm_vit import TIMM_PARALLEL, TIMM_VIT
from megavit.weights.pretrained.mappings.torchvision import TORCHVISION
from megavit.weights.pretrained.mappings.vit_pytorch import SIMPLE_VIT, VIT_PYTORCH
from megavit.weights.pretrained.mappings.zetascale import ZETASCALE

Answers = Callable[[Any, Tensor], dict[str, Tensor]]
Said = Callable[[Any], Overrides]


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


def timm_said(theirs: Any) -> Overrides:
    architecture = getattr(theirs, "pretrained_cfg", {}).get("architecture")
    reported = {"architecture": architecture, "global_pool": theirs.global_pool}
    return read_timm_settings(
        reported | {"model_args": getattr(theirs, "_model_args", {})}
    )  # as timm itself records them


def simple_vit_said(theirs: Any) -> Overrides:
    """The size of square images, of which their file has no trace."""
    side = math.isqrt(len(theirs.pos_embedding))
    return {"image_size": tuple(side * patch for patch in theirs.patch_size)}


def nothing_said(_: Any) -> Overrides:
    return {}


def of_timm(peer: Any) -> Family:
    return Family(peer, timm_said, "patch_embed", "blocks", ("norm", "fc_norm"), timm_answers)


def of_hugging_face(peer: Any, patches: str, layers: str, norm: str) -> Family:
    return Family(
        peer, lambda theirs: peer.settings(theirs.config.to_dict()), patches, layers, (norm,), hugging_face_answers
    )


def of_vit_pytorch(peer: Any, said: Said, head: str) -> Family:
    return Family(peer, said, "to_patch_embedding", "transformer.layers", ("transformer.norm",), answers_at(head))


FAMILIES = {
    "timm ViT": of_timm(TIMM_VIT),
    "timm parallel": of_timm(TIMM_PARALLEL),
    "timm Perception Encoder": of_timm(PERCEPTION),
    "timm DINOv3": of_timm(EVA),
    "timm rotary": of_timm(EVA),
    "timm EVA-02": of_timm(EVA02),
    "timm EVA-02 large": of_timm(EVA02_LARGE),
    "Hugging Face ViT": of_hugging_face(HF_VIT, "patch_embeddings.projection", "layers", "layernorm"),
    "Hugging Face DINOv2": of_hugging_face(HF_DINOV2, "patch_embeddings.projection", "encoder.layer", "layernorm"),
    "Hugging Face DINOv3": of_hugging_face(HF_DINOV3, "patch_embeddings", "model.layer", "norm"),
    "Hugging Face CLIP": of_hugging_face(HF_CLIP, "patch_embedding", "encoder.layers", "post_layernorm"),
    "torchvision": Family(
        TORCHVISION, nothing_said, "conv_proj", "encoder.layers", ("encoder.ln",), answers_at("heads")
    ),
    "OpenCLIP": Family(
        OPEN_CLIP,
        lambda theirs: OPEN_CLIP.settings(theirs.settings),
        "conv1",
        "transformer.resblocks",
        ("ln_post",),
        open_clip_answers,
    ),
    "vit-pytorch": of_vit_pytorch(VIT_PYTORCH, nothing_said, "mlp_head"),
    "vit-pytorch SimpleViT": of_vit_pytorch(SIMPLE_VIT, simple_vit_said, "linear_head"),
    "zetascale": of_vit_pytorch(ZETASCALE, nothing_said, "mlp_head"),
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
    config = peer.config(shapes, known)
    rules = peer.key_rules(config)
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
