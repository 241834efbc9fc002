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

from benchmarks.parity.hooks import capture_outputs, flatten_patches, submodule
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

OutputsFunction = Callable[[Any, Tensor], dict[str, Tensor]]
SettingsFunction = Callable[[Any], Overrides]


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
    file_settings: SettingsFunction
    patches: str
    layers: str
    norms: tuple[str, ...]
    peer_outputs: OutputsFunction


def timm_outputs(model: Any, images: Tensor) -> dict[str, Tensor]:
    features = model.forward_features(images)
    pooled = {"pooled": model.forward_head(features, pre_logits=True)}
    return pooled | {"logits": model.forward_head(features)} if model.num_classes else pooled


def hugging_face_outputs(model: Any, images: Tensor) -> dict[str, Tensor]:
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


def outputs_at(head: str) -> OutputsFunction:
    """Where the pooled answer is what the module called `head` takes."""

    def peer_outputs(model: Any, images: Tensor) -> dict[str, Tensor]:
        captured, logits = capture_outputs({}, lambda: model(images), inputs_of={"pooled": model.get_submodule(head)})
        return {"pooled": captured["pooled"], "logits": logits}

    return peer_outputs


def open_clip_outputs(model: Any, images: Tensor) -> dict[str, Tensor]:
    """Of a tower that pools by its class token."""
    captured, logits = capture_outputs({"norm": model.ln_post}, lambda: model(images))
    return {"pooled": captured["norm"][:, 0], "logits": logits}


def timm_settings(peer_model: Any) -> Overrides:
    architecture = getattr(peer_model, "pretrained_cfg", {}).get("architecture")
    reported = {"architecture": architecture, "global_pool": peer_model.global_pool}
    return read_timm_settings(
        reported | {"model_args": getattr(peer_model, "_model_args", {})}
    )  # as timm itself records them


def simple_vit_settings(peer_model: Any) -> Overrides:
    """The size of square images, of which their file has no trace."""
    side = math.isqrt(len(peer_model.pos_embedding))
    return {"image_size": tuple(side * patch for patch in peer_model.patch_size)}


def no_settings(_: Any) -> Overrides:
    return {}


def timm_family(peer: Any) -> Family:
    return Family(peer, timm_settings, "patch_embed", "blocks", ("norm", "fc_norm"), timm_outputs)


def hugging_face_family(peer: Any, patches: str, layers: str, norm: str) -> Family:
    return Family(
        peer,
        lambda peer_model: peer.settings(peer_model.config.to_dict()),
        patches,
        layers,
        (norm,),
        hugging_face_outputs,
    )


def vit_pytorch_family(peer: Any, file_settings: SettingsFunction, head: str) -> Family:
    return Family(
        peer, file_settings, "to_patch_embedding", "transformer.layers", ("transformer.norm",), outputs_at(head)
    )


FAMILIES = {
    "timm ViT": timm_family(TIMM_VIT),
    "timm parallel": timm_family(TIMM_PARALLEL),
    "timm Perception Encoder": timm_family(PERCEPTION),
    "timm DINOv3": timm_family(EVA),
    "timm rotary": timm_family(EVA),
    "timm EVA-02": timm_family(EVA02),
    "timm EVA-02 large": timm_family(EVA02_LARGE),
    "Hugging Face ViT": hugging_face_family(HF_VIT, "patch_embeddings.projection", "layers", "layernorm"),
    "Hugging Face DINOv2": hugging_face_family(HF_DINOV2, "patch_embeddings.projection", "encoder.layer", "layernorm"),
    "Hugging Face DINOv3": hugging_face_family(HF_DINOV3, "patch_embeddings", "model.layer", "norm"),
    "Hugging Face CLIP": hugging_face_family(HF_CLIP, "patch_embedding", "encoder.layers", "post_layernorm"),
    "torchvision": Family(
        TORCHVISION, no_settings, "conv_proj", "encoder.layers", ("encoder.ln",), outputs_at("heads")
    ),
    "OpenCLIP": Family(
        OPEN_CLIP,
        lambda peer_model: OPEN_CLIP.settings(peer_model.settings),
        "conv1",
        "transformer.resblocks",
        ("ln_post",),
        open_clip_outputs,
    ),
    "vit-pytorch": vit_pytorch_family(VIT_PYTORCH, no_settings, "mlp_head"),
    "vit-pytorch SimpleViT": vit_pytorch_family(SIMPLE_VIT, simple_vit_settings, "linear_head"),
    "zetascale": vit_pytorch_family(ZETASCALE, no_settings, "mlp_head"),
}


@torch.no_grad()
def perturb_weights(module: nn.Module, scale: float = 0.1) -> None:
    """Move every parameter away from its initial value: norms, biases, positions and scales too."""
    for parameter in module.parameters():
        parameter.add_(scale * torch.randn_like(parameter))


def file_tensors(peer_model: nn.Module) -> dict[str, Tensor]:
    """What their own `save` writes: for Hugging Face other names than those of the modules."""
    state = peer_model.state_dict()
    return revert_weight_conversion(peer_model, state) if isinstance(peer_model, PreTrainedModel) else state


def table_tensors(peer: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file of theirs by the names of the peer's table."""
    if not hasattr(peer, "names"):
        return dict(tensors)
    return {name: tensors[found] for found, name in peer.names(tensors).items()}


def load_our_model(family: Family, peer_model: nn.Module) -> MegaVit:
    """Our model with their weights."""
    peer, known = family.peer, family.file_settings(peer_model)
    tensors = table_tensors(peer, file_tensors(peer_model))
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    config = peer.config(shapes, known)
    rules = peer.key_rules(config)
    check_shapes(rules, shapes, type(peer_model).__name__)
    with torch.device("meta"):  # the largest would not be in memory three times
        our_model = MegaVit.from_config(config).eval()
    our_model.load_state_dict(to_ours(rules, tensors, config), assign=True)
    return our_model


@torch.no_grad()
def our_stages(our_model: MegaVit, images: Tensor) -> dict[str, Tensor]:
    layers = dict(enumerate(our_model.transformer.layers))
    modules = {"patches": our_model.patch_embedding} | {f"block {i}": layer for i, layer in layers.items()}
    modules["norm"] = our_model.norm
    captured, features = capture_outputs(modules, lambda: our_model.features(images))
    captured["pooled"] = features.pooled
    if our_model.config.num_classes:
        captured["logits"] = our_model.mlp_head(features.pooled)
    return captured


@torch.no_grad()
def peer_stages(family: Family, peer_model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    layers = list(submodule(peer_model, family.layers).children())
    norms = (submodule(peer_model, name) for name in family.norms)
    norm = next(norm for norm in norms if not isinstance(norm, nn.Identity))
    modules, inputs_of = {"patches": submodule(peer_model, family.patches), "norm": norm}, {}
    if isinstance(layers[0], nn.ModuleList):
        parts = [*(next(layer.children()) for layer in layers[1:]), norm]
        inputs_of = {f"block {i}": part for i, part in enumerate(parts)}
    else:
        modules |= {f"block {i}": layer for i, layer in enumerate(layers)}
    captured, peer_outputs = capture_outputs(modules, lambda: family.peer_outputs(peer_model, images), inputs_of)
    width = peer_outputs["pooled"].shape[-1] if "pooled" in peer_outputs else captured["block 0"].shape[-1]
    captured["patches"] = flatten_patches(captured["patches"], width)
    return captured | peer_outputs
