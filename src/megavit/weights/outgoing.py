"""A model in another library's format: a folder that timm or Hugging Face's transformers loads as its own."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.config.target import Target
from megavit.config.vit import ViTConfig, pair
from megavit.errors import BundleError, ConfigError, OutputError
from megavit.runtime.storage import new_folder, write_file, writing
from megavit.weights.head import NEGLIGIBLE, folded_head
from megavit.weights.keys import to_theirs
from megavit.weights.outgoing_card import Library, card_for, sentences
from megavit.weights.peers import hf_vit, timm_vit
from megavit.weights.peers.timm_names import POOLS
from megavit.weights.problem_type import settings_of
from megavit.weights.source import Source
from megavit.weights.tensors import write_tensors

WEIGHTS, SETTINGS, PROCESSOR, CARD = "model.safetensors", "config.json", "preprocessor_config.json", "README.md"
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


def write_for(library: Library, source: Source, out: Path, *, calibrated: bool = True) -> list[str]:
    """Write `source` to the new folder `out`, as `library` has its models.

    The library's softmax, sigmoid or plain output (by its `problem_type`) is the bundle's own answer: what the bundle
    does with its logits is in the head.

    Args:
        calibrated: write the calibrated probabilities; else those that the model gives by itself, where no head can
            hold its calibration.

    Returns:
        Sentences on what its outputs mean, and on what the library has no place for.

    Raises:
        BundleError: naming every part of the model that the library's Vision Transformer has not, or why it would
            answer otherwise.
        OutputError: when `out` is there already, or cannot be written.
    """
    if out.exists():
        raise OutputError(f"there is {out} already; choose a new folder")
    told = []
    if not calibrated:
        source = without_calibration(source)
        told.append("the probabilities are what the model says by itself: the bundle's calibration was left out")
    told += sentences(library, source)
    meaning: dict[str, Any] = {}
    if source.config.num_classes:
        check_outputs(source.target, source.config.num_classes)
        source = replace(source, tensors=folded_head(source.tensors, source.target, source.trust))
        meaning = settings_of(source.target)
    files, tensors = WRITERS[library](source)
    files[SETTINGS] |= meaning
    with writing("the model", out), new_folder(out) as new:
        write_tensors(new / WEIGHTS, tensors, {"format": "pt"})
        for name, settings in files.items():
            write_file(new / name, json.dumps(settings, indent=1, ensure_ascii=False))
        write_file(new / CARD, card_for(library, source, told).encode(errors="replace"))
    return told


def without_calibration(source: Source) -> Source:
    """Return a model whose probabilities are those that it gives by itself; only where its head cannot be calibrated.

    Raises:
        ConfigError: where it can, so that nothing need be lost.
    """
    if source.trust.smoothing <= NEGLIGIBLE:
        raise ConfigError("--uncalibrated is for a calibration that no head can hold, and this one's can: leave it out")
    return replace(source, trust=replace(source.trust, temperature=1.0, smoothing=0.0))


def check_outputs(target: Target, outputs: int) -> None:
    """Raise a BundleError for one class alone, which other libraries take for a label and answer by a sigmoid."""
    if target.kind == "classes" and outputs == 1:
        raise BundleError(
            "the bundle has one class, which every image gets with probability 1; other libraries give the sigmoid of "
            "one output, another answer: convert its checkpoint again, with --target labels or --target score"
        )


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
    arguments = {
        "img_size": list(config.image_hw),
        "patch_size": list(config.patch_hw),
        "in_chans": config.channels,
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
        "dynamic_img_size": True,
    }
    if not swiglu:
        arguments["act_layer"] = design.mlp
    settings = {
        "architecture": TIMM_SWIGLU if swiglu else TIMM_BY_EPS[design.norm_eps],
        "num_classes": config.num_classes,
        "num_features": config.dim,
        "global_pool": arguments["global_pool"],
        "label_names": names_of(source),
        "model_args": arguments,
        "pretrained_cfg": timm_preparation(preparation(source))
        | {"first_conv": "patch_embed.proj", "classifier": "head"},
    }
    return {SETTINGS: settings}, to_theirs(timm_vit.table(config), source.tensors)


def timm_preparation(given: Preprocessing) -> dict[str, Any]:
    whole = given.resize is None
    side = given.height if whole else pair("resize", given.resize or 0)[0]
    return {
        "input_size": [given.channels, given.height, given.width],
        "mean": by_channel(given, given.mean),
        "std": by_channel(given, given.std),
        "interpolation": given.interpolation,
        # timm rounds the size to resize to down.
        "crop_pct": 1.0 if whole or side == given.height else given.height / (side + 0.5),
        "crop_mode": "center" if isinstance(given.resize, int) else "squash",
    }


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
    labels = names_of(source)
    settings = {
        "architectures": ["ViTForImageClassification" if config.num_classes else "ViTModel"],
        "model_type": "vit",
        "image_size": _square(config.image_hw),
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
    return {SETTINGS: settings, PROCESSOR: hugging_face_preparation(preparation(source))}, named


def hugging_face_preparation(given: Preprocessing) -> dict[str, Any]:
    common = {
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": by_channel(given, given.mean),
        "image_std": by_channel(given, given.std),
        "resample": {"bilinear": 2, "bicubic": 3}[given.interpolation],
    }
    size = {"height": given.height, "width": given.width}
    if given.resize is None:
        return common | {"image_processor_type": "ViTImageProcessor", "size": size}
    if isinstance(given.resize, int):
        before: dict[str, int] = {"shortest_edge": given.resize}
    else:
        before = dict(zip(("height", "width"), given.resize, strict=True))
    return common | {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": given.channels == 3,
        "size": before,
        "do_center_crop": True,
        "crop_size": size,
    }


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


def names_of(source: Source) -> list[str]:
    """Return a name for every output; that of a score has none in a bundle."""
    return ["score"] if source.target.kind == "score" else list(source.labels)


def by_channel(given: Preprocessing, value: float | tuple[float, ...]) -> list[float]:
    return list(value) if isinstance(value, tuple) else [value] * given.channels


def _square(sides: tuple[int, int]) -> int | list[int]:
    return sides[0] if sides[0] == sides[1] else list(sides)


WRITERS: dict[Library, Callable[[Source], tuple[Files, dict[str, Tensor]]]] = {
    "timm": timm_files,
    "huggingface": hugging_face_files,
}
