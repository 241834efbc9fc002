"""Convert a model to the settings files and tensors of timm and Hugging Face's transformers."""

from typing import Any

from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.errors import BundleError
from megavit.weights.pretrained.mappings.hf_vit import HF_VIT, file_name
from megavit.weights.pretrained.mappings.key_mapping import to_theirs
from megavit.weights.pretrained.mappings.timm_model_args import fit_to_timm, timm_model_args, timm_tensors
from megavit.weights.pretrained.pretrained import PretrainedModel
from megavit.weights.pretrained.processors.save_processor import hf_processor_settings, image_size, timm_data_config

SETTINGS, PROCESSOR = "config.json", "preprocessor_config.json"
HF_VIT_DESIGN = {
    "block": "serial",
    "norm": "layer",
    "norm_bias": True,
    "patch_norm": False,
    "attention_out_norm": False,
    "mlp_out_norm": False,
    "positions": "learned",
    "stem": "patch",
    "qk_norm": False,
    "pre_norm": False,
    "final_norm": "tokens",
    "prefix_positions": "class",
    "registers": 0,
    "layer_scale": None,
}
HF_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "quick_gelu": "quick_gelu"}

Files = dict[str, dict[str, Any]]
"""Contents of JSON settings files by file name."""


def timm_files(pretrained: PretrainedModel) -> tuple[Files, dict[str, Tensor]]:
    """Return files and tensors for `timm.create_model("local-dir:FOLDER", pretrained=True)`."""
    config, state = fit_to_timm(pretrained.config, pretrained.tensors)
    architecture, arguments = timm_model_args(config)
    preprocessing = get_preprocessing(pretrained)
    image_hw = image_size(config.grid, config.image_hw, preprocessing)
    # With dynamic sizes timm requires whole patches.
    arguments |= {"img_size": list(image_hw), "dynamic_img_size": image_hw == config.image_hw}
    settings = {
        "architecture": architecture,
        "num_classes": config.num_classes,
        "num_features": config.dim,
        "global_pool": arguments["global_pool"],
        "label_names": output_names(pretrained),
        "model_args": arguments,
        "pretrained_cfg": timm_data_config(preprocessing) | {"first_conv": "patch_embed.proj", "classifier": "head"},
    }
    return {SETTINGS: settings}, timm_tensors(config, state)


def hugging_face_files(pretrained: PretrainedModel) -> tuple[Files, dict[str, Tensor]]:
    """Return the files and tensors of Hugging Face's ViT; raise a BundleError if it cannot represent the model."""
    config, design = pretrained.config, pretrained.config.design
    faults = [
        f"  {name}: {getattr(design, name)!r}, expected {value!r}"
        for name, value in HF_VIT_DESIGN.items()
        if getattr(design, name) != value
    ]
    if design.mlp not in HF_ACTIVATIONS:
        faults.append(f"  mlp: {design.mlp!r}, expected one of {', '.join(HF_ACTIVATIONS)}")
    if config.heads * config.dim_head != config.dim:
        faults.append(f"  heads × dim_head: {config.heads} × {config.dim_head}, expected dim, {config.dim}")
    if faults:
        raise BundleError("\n".join(["Hugging Face's Vision Transformer does not support this model:", *faults]))
    if config.pool != "cls":
        other = "timm supports both" if config.pool != "cls_mean" else "timm does not support that either"
        raise BundleError(
            f"Hugging Face's ViT pools by the class token, but this model pools by {config.pool!r}; {other}"
        )
    preprocessing = get_preprocessing(pretrained)
    labels = output_names(pretrained)
    settings = {
        "architectures": ["ViTForImageClassification" if config.num_classes else "ViTModel"],
        "model_type": "vit",
        "image_size": _square(image_size(config.grid, config.image_hw, preprocessing)),
        "patch_size": _square(config.patch_hw),
        "num_channels": config.channels,
        "hidden_size": config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_dim,
        "hidden_act": HF_ACTIVATIONS[design.mlp],
        "layer_norm_eps": design.norm_eps,
        "qkv_bias": design.qkv_bias,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }
    tensors = to_theirs(HF_VIT.key_rules(config), pretrained.tensors)
    named = {file_name(name, config): tensor for name, tensor in tensors.items()}
    return {SETTINGS: settings, PROCESSOR: hf_processor_settings(preprocessing)}, named


def get_preprocessing(pretrained: PretrainedModel) -> Preprocessing:
    """Return the model's preprocessing, or a default; raise a BundleError if it keeps the aspect ratio of images."""
    (height, width), channels = pretrained.config.image_hw, pretrained.config.channels
    preprocessing = pretrained.preprocessing or Preprocessing(height=height, width=width, channels=channels)
    if preprocessing.keep_aspect:
        raise BundleError(
            "the model was trained on images that keep their aspect ratio, which other libraries' settings cannot "
            "express"
        )
    return preprocessing


def output_names(pretrained: PretrainedModel) -> list[str]:
    """Return a name for every output; "score" for regression."""
    return ["score"] if pretrained.target.kind == "regression" else list(pretrained.labels)


def _square(sides: tuple[int, int]) -> int | list[int]:
    return sides[0] if sides[0] == sides[1] else list(sides)
