"""A model in another library's format: a folder that timm or Hugging Face's transformers loads as its own."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.config.target import Target
from megavit.config.vit import ViTConfig
from megavit.errors import BundleError, ConfigError, OutputError
from megavit.runtime.storage import new_folder, write_file, writing
from megavit.weights.bundle.safetensors_io import write_tensors
from megavit.weights.pretrained.heads.head import NEGLIGIBLE, folded_head
from megavit.weights.pretrained.heads.problem_type import settings_of
from megavit.weights.pretrained.mappings import hf_vit
from megavit.weights.pretrained.mappings.key_mapping import to_theirs
from megavit.weights.pretrained.mappings.timm_arguments import arguments_of, as_timm_has_it, tensors_of
from megavit.weights.pretrained.outgoing_card import Library, card_for, sentences
from megavit.weights.pretrained.pretrained import PretrainedModel, load_pretrained
from megavit.weights.pretrained.processors.preprocessing_out import (
    hugging_face_preparation,
    image_size,
    timm_preparation,
)
from megavit.weights.pretrained.to_bundle import build_model

WEIGHTS, SETTINGS, PROCESSOR, CARD = "model.safetensors", "config.json", "preprocessor_config.json", "README.md"
# What Hugging Face's plain ViT is, whatever its sizes.
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
# How far answers of the model that was read back may be apart, of the largest; sums in another order are some 1e-6.
AGREE = 1e-4
HF_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "quick_gelu": "quick_gelu"}


def save_pretrained(library: Library, source: PretrainedModel, out: Path, *, calibrated: bool = True) -> list[str]:
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
        source = replace(source, tensors=folded_head(source.tensors, source.target, source.calibration))
        meaning = settings_of(source.target)
    files, tensors = WRITERS[library](source)
    files[SETTINGS] |= meaning
    with writing("the model", out), new_folder(out) as new:
        write_tensors(new / WEIGHTS, tensors, {"format": "pt"})
        for name, settings in files.items():
            write_file(new / name, json.dumps(settings, indent=1, ensure_ascii=False))
        write_file(new / CARD, card_for(library, source, told).encode(errors="replace"))
        check_written(source, new)
    return told


@torch.inference_mode()
def check_written(source: PretrainedModel, folder: Path) -> None:
    """Read what was written, as any other library's model, and have both answer for an image.

    Args:
        source: with the head that was written.

    Raises:
        BundleError: when they differ: nothing is to be left of it then.
    """
    config = source.config
    written = load_pretrained(str(folder))
    if config.num_classes:
        written = replace(written, tensors=folded_head(written.tensors, written.target, written.calibration))
    image = torch.randn(1, config.channels, *config.image_hw, generator=torch.Generator().manual_seed(0))
    ours, theirs = build_model(source)(image), build_model(written)(image)
    if ours.shape != theirs.shape or not torch.allclose(theirs, ours, rtol=AGREE, atol=AGREE * float(ours.abs().max())):
        raise BundleError(
            f"{source.name} was written as a model that answers otherwise; nothing of it is left. This is a fault of "
            "megavit: please report it, with the model's settings"
        )


def without_calibration(source: PretrainedModel) -> PretrainedModel:
    """Return a model whose probabilities are those that it gives by itself; only where its head cannot be calibrated.

    Raises:
        ConfigError: where it can, so that nothing need be lost.
    """
    if source.calibration.smoothing <= NEGLIGIBLE:
        raise ConfigError(
            "--drop-calibration is for a calibration that no head can hold, and this one's can: leave it out"
        )
    return replace(source, calibration=replace(source.calibration, temperature=1.0, smoothing=0.0))


def check_outputs(target: Target, outputs: int) -> None:
    """Raise a BundleError for one class alone, which other libraries take for a label and answer by a sigmoid."""
    if target.kind == "classification" and outputs == 1:
        raise BundleError(
            "the bundle has one class, which every image gets with probability 1; other libraries give the sigmoid of "
            "one output, another answer: convert its checkpoint again, with --target multilabel or --target regression"
        )


Files = dict[str, dict[str, Any]]


def timm_files(source: PretrainedModel) -> tuple[Files, dict[str, Tensor]]:
    """For `timm.create_model("local-dir:FOLDER", pretrained=True)`, or an upload to the hub."""
    config, state = as_timm_has_it(source.config, source.tensors)
    architecture, arguments = arguments_of(config)
    prepared = preparation(source)
    image_hw = image_size(config.grid, config.image_hw, prepared)
    # At sizes of its own, timm wants whole patches.
    arguments |= {"img_size": list(image_hw), "dynamic_img_size": image_hw == config.image_hw}
    settings = {
        "architecture": architecture,
        "num_classes": config.num_classes,
        "num_features": config.dim,
        "global_pool": arguments["global_pool"],
        "label_names": names_of(source),
        "model_args": arguments,
        "pretrained_cfg": timm_preparation(prepared) | {"first_conv": "patch_embed.proj", "classifier": "head"},
    }
    return {SETTINGS: settings}, tensors_of(config, state)


def hugging_face_files(source: PretrainedModel) -> tuple[Files, dict[str, Tensor]]:
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
    labels = names_of(source)
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


def preparation(source: PretrainedModel) -> Preprocessing:
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


def names_of(source: PretrainedModel) -> list[str]:
    """Return a name for every output; that of a score has none in a bundle."""
    return ["score"] if source.target.kind == "regression" else list(source.labels)


def _square(sides: tuple[int, int]) -> int | list[int]:
    return sides[0] if sides[0] == sides[1] else list(sides)


WRITERS: dict[Library, Callable[[PretrainedModel], tuple[Files, dict[str, Tensor]]]] = {
    "timm": timm_files,
    "huggingface": hugging_face_files,
}
