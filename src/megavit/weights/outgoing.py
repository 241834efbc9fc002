"""A model in another library's format: a folder that timm or Hugging Face's transformers loads as its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.config.vit import ViTConfig
from megavit.errors import BundleError, OutputError
from megavit.runtime.storage import new_folder, write_file, writing
from megavit.weights.keys import to_theirs
from megavit.weights.peers import hf_vit, timm_vit
from megavit.weights.peers.timm_names import POOLS
from megavit.weights.preparation import labels_of
from megavit.weights.preprocessing_out import hugging_face_preparation, image_size, timm_preparation
from megavit.weights.source import Source
from megavit.weights.tensors import write_tensors

Library = Literal["timm", "huggingface"]
WEIGHTS, SETTINGS, PROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"
# What both libraries' plain ViT is, whatever its sizes.
PLAIN = {
    "block": "serial",
    "norm": "layer",
    "norm_bias": True,
    "patch_norm": False,
    "attention_out_norm": False,
    "mlp_out_norm": False,
    "positions": "learned",
    "patch_overlap": 0,
}
# timm's settings are functions where JSON has no word: an architecture that has the right ones stands for them.
TIMM_BY_EPS = {1e-6: "vit_base_patch16_224", 1e-5: "vit_base_patch16_clip_224"}
TIMM_SWIGLU = "vit_giant_patch14_dinov2"
HF_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "quick_gelu": "quick_gelu"}


def write_for(library: Library, source: Source, out: Path) -> None:
    """Write `source` to the new folder `out`, as `library` has its models.

    Raises:
        BundleError: naming every part of the model that the library's Vision Transformer has not.
        OutputError: when `out` is there already, or cannot be written.
    """
    if out.exists():
        raise OutputError(f"there is {out} already; choose a new folder")
    files, tensors = WRITERS[library](source)
    with writing("the model", out), new_folder(out) as new:
        write_tensors(new / WEIGHTS, tensors, {"format": "pt"})
        for name, settings in files.items():
            write_file(new / name, json.dumps(settings, indent=1, ensure_ascii=False))


Files = dict[str, dict[str, Any]]


def timm_files(source: Source) -> tuple[Files, dict[str, Tensor]]:
    """For `timm.create_model("local-dir:FOLDER", pretrained=True)`, or an upload to the hub."""
    config, design = source.config, source.config.design
    refuse("timm", config, PLAIN, mlp=(*HF_ACTIVATIONS, "swiglu"), eps=tuple(TIMM_BY_EPS))
    swiglu = design.mlp == "swiglu"
    if swiglu and design.norm_eps != 1e-6:
        raise BundleError(f"timm's SwiGLU has norms with epsilon 1e-6, and this model {design.norm_eps}")
    by_class = config.pool == "cls"
    if by_class and design.registers and design.prefix_positions == "class":
        raise BundleError("timm's class token has a position only if its registers have, unlike this model's")
    has_class = by_class or (design.registers > 0 and design.prefix_positions == "all")
    hidden = config.mlp_dim * (2 if swiglu else 1)
    prepared = preparation(source)
    image_hw = image_size(config.grid, config.image_hw, prepared)
    arguments = {
        "img_size": list(image_hw),
        "patch_size": list(config.patch_hw),
        "in_chans": config.channels,
        "num_classes": config.num_classes,
        "global_pool": next(theirs for theirs, ours in POOLS.items() if ours == config.pool),
        "embed_dim": config.dim,
        "depth": config.depth,
        "num_heads": config.heads,
        "mlp_ratio": (hidden + 0.5) / config.dim,  # timm cuts the product off
        "qkv_bias": design.qkv_bias,
        "qk_norm": design.qk_norm,
        "init_values": design.layer_scale,
        "class_token": has_class,
        "no_embed_class": not (has_class and design.prefix_positions != "none"),
        "reg_tokens": design.registers - (has_class and not by_class),
        "pre_norm": design.pre_norm,
        "fc_norm": design.final_norm == "pooled",
        # At sizes of its own, timm wants whole patches.
        "dynamic_img_size": image_hw == config.image_hw,
    }
    if not swiglu:
        arguments["act_layer"] = design.mlp
    settings = {
        "architecture": TIMM_SWIGLU if swiglu else TIMM_BY_EPS[design.norm_eps],
        "num_classes": config.num_classes,
        "num_features": config.dim,
        "global_pool": arguments["global_pool"],
        "label_names": list(source.labels),
        "model_args": arguments,
        "pretrained_cfg": timm_preparation(prepared) | {"first_conv": "patch_embed.proj", "classifier": "head"},
    }
    return {SETTINGS: settings}, to_theirs(timm_vit.table(config), source.tensors)


def hugging_face_files(source: Source) -> tuple[Files, dict[str, Tensor]]:
    """For `AutoModelForImageClassification.from_pretrained(FOLDER)`, or `AutoModel` for a model without a head."""
    config, design = source.config, source.config.design
    wanted = PLAIN | {
        "qk_norm": False,
        "pre_norm": False,
        "final_norm": "tokens",
        "prefix_positions": "class",
        "registers": 0,
        "layer_scale": None,
    }
    refuse("Hugging Face", config, wanted, mlp=tuple(HF_ACTIVATIONS), eps=None)
    if config.pool != "cls":
        raise BundleError(
            f"Hugging Face's ViT answers from the class token, and this model pools by {config.pool!r}; timm's can too"
        )
    prepared = preparation(source)
    labels = source.labels or labels_of({}, config.num_classes)  # the output of a score has no name
    settings = {
        "architectures": ["ViTForImageClassification" if config.num_classes else "ViTModel"],
        "model_type": "vit",
        "image_size": _square(image_size(config.grid, config.image_hw, prepared)),
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
    tensors = to_theirs(hf_vit.table(config), source.tensors)
    named = {hf_vit.file_name(name, config): tensor for name, tensor in tensors.items()}
    return {SETTINGS: settings, PROCESSOR: hugging_face_preparation(prepared)}, named


def refuse(
    library: str, config: ViTConfig, wanted: dict[str, Any], mlp: tuple[str, ...], eps: tuple[float, ...] | None
) -> None:
    """Raise one BundleError that names every part of the model which `library`'s has not."""
    design = config.design
    faults = [
        f"  {name}: {getattr(design, name)!r}, where theirs has {value!r}"
        for name, value in wanted.items()
        if getattr(design, name) != value
    ]
    if design.mlp not in mlp:
        faults.append(f"  mlp: {design.mlp!r}, where theirs has {', '.join(mlp)}")
    if eps is not None and design.norm_eps not in eps:
        faults.append(f"  norm_eps: {design.norm_eps:g}, where theirs has {' or '.join(f'{one:g}' for one in eps)}")
    if config.heads * config.dim_head != config.dim:
        faults.append(f"  heads × dim_head: {config.heads} × {config.dim_head}, where theirs have dim, {config.dim}")
    if faults:
        raise BundleError("\n".join([f"{library}'s Vision Transformer cannot be this model:", *faults]))


def preparation(source: Source) -> Preprocessing:
    """As the source says.

    Raises:
        BundleError: for images that keep their aspect, which neither library's settings can say.
    """
    height, width = source.config.image_hw
    given = source.preprocessing or Preprocessing(height=height, width=width, channels=source.config.channels)
    if given.keep_aspect:
        raise BundleError(
            "the model was trained on images that keep their aspect, which other libraries' settings cannot say"
        )
    return given


def _square(sides: tuple[int, int]) -> int | list[int]:
    return sides[0] if sides[0] == sides[1] else list(sides)


WRITERS: dict[Library, Callable[[Source], tuple[Files, dict[str, Tensor]]]] = {
    "timm": timm_files,
    "huggingface": hugging_face_files,
}
