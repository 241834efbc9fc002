"""Load a checkpoint of another library: detect its format, derive its config and map its weights to MegaVit's names."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.model.statistics import Shapes
from megavit.weights.pretrained.candidates import Candidate, find_candidates
from megavit.weights.pretrained.checkpoint_files import Contents, find_checkpoint, read_checkpoint
from megavit.weights.pretrained.classifier import add_wrapper_head, rename_replaced_head
from megavit.weights.pretrained.formats import FORMATS, check_model_type
from megavit.weights.pretrained.mappings.checkpoint_format import CheckpointFormat
from megavit.weights.pretrained.mappings.config_from_shapes import Overrides, get_field
from megavit.weights.pretrained.mappings.key_mapping import check_shapes, to_ours
from megavit.weights.pretrained.settings_files import (
    read_model_settings,
    read_processor_settings,
    valid_settings,
)

# Names of fields in messages, and the flags of `megavit convert` that set them.
FIELD_LABELS = {
    "mlp": "activation",
    "norm_eps": "eps",
    "image_size": "image size",
    "patch_size": "patch size",
    "final_norm": "final norm of the",
}
FLAGS = {
    "heads": "--num-heads",
    "mlp": "--activation",
    "norm_eps": "--norm-eps",
    "pool": "--pool",
    "norm": "--norm",
    "image_size": "--image-size",
    "patch_size": "--patch-size",
    "channels": "--channels",
}
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, kw_only=True)
class ForeignCheckpoint:
    """A model of another library, with its weights under MegaVit's names.

    Attributes:
        format: name of the checkpoint format.
        config: config of the model.
        tensors: weights, by the names of MegaVit's `state_dict`.
        left_out: names of tensors outside the image classifier, such as those of a text tower.
        notes: sentences on how the checkpoint was interpreted.
        settings: contents of config.json or open_clip_config.json; {} if there is none.
        processor: settings of Hugging Face's image processor; {} if there are none.
    """

    format: str
    config: ViTConfig
    tensors: dict[str, Tensor]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    settings: dict[str, Any]
    processor: dict[str, Any]


def load_checkpoint(path: Path, overrides: Overrides, state_dict: str | None = None) -> ForeignCheckpoint:
    """Load a model of another library from a checkpoint file, or from a folder with a checkpoint and settings files.

    Args:
        overrides: values of fields of `ViTConfig` and `Design` that take precedence over the files.
        state_dict: `Candidate.name` of the weights to load from a file with several; None for the best.

    Raises:
        BundleError: if the checkpoint cannot be read or fits no known format, with a list of the tensors at fault.
        ConfigError: if the sizes of the model are inconsistent.
    """
    settings = read_model_settings(path) if path.is_dir() else {}
    check_model_type(settings)
    file = find_checkpoint(path) if path.is_dir() else path
    contents = read_checkpoint(file)
    candidate, others = choose_candidate(contents, state_dict, str(file), settings.get("architecture"))
    checkpoint_format = candidate.format
    head = checkpoint_format.head
    names = checkpoint_format.names(candidate.tensors)
    tensors = {theirs: candidate.tensors[name] for name, theirs in names.items()}
    replaced: tuple[str, ...] = ()
    if head:
        tensors, replaced = rename_replaced_head(tensors, head, str(file))
    check_dtypes(tensors, str(file))
    tensors = checkpoint_format.normalize(tensors)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    with valid_settings("architecture") if settings else nullcontext():
        facts = {**(checkpoint_format.settings(settings) if settings else {}), **overrides}
        config = checkpoint_format.config(shapes, facts)
        if head and not config.num_classes:
            outside = {name: tensor for name, tensor in candidate.tensors.items() if name not in names}
            width = checkpoint_format.head_inputs * config.dim
            tensors, replaced = add_wrapper_head(tensors, candidate.prefix, outside | candidate.others, head, width)
            shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            config = checkpoint_format.config(shapes, facts)
    check_overrides(checkpoint_format, shapes, facts, overrides)
    rules = checkpoint_format.key_rules(config)
    check_shapes(rules, shapes, str(file))
    check_finite(tensors, str(file))
    unused = {*(name for name in candidate.tensors if name not in names), *candidate.others}
    left_out = tuple(sorted(name for name in unused if name.rpartition(".")[0] not in replaced))
    assumed = {name: value for name, value in checkpoint_format.undetermined(config).items() if name not in facts}
    return ForeignCheckpoint(
        format=checkpoint_format.name,
        config=config,
        tensors=to_ours(rules, tensors, config),
        left_out=left_out,
        notes=(
            f"read as {checkpoint_format.name}",
            *describe_contents(contents, candidate, others, replaced),
            *([describe_left_out(left_out)] if left_out else []),
            *([describe_assumptions(assumed)] if assumed else []),
        ),
        settings=settings,
        processor=read_processor_settings(path) if path.is_dir() else {},
    )


def describe_contents(
    contents: Contents, candidate: Candidate, others: Sequence[Candidate], replaced: Sequence[str]
) -> list[str]:
    """Return sentences on which weights of a file were loaded and what was not read."""
    sentences = []
    if candidate.name:
        sentences.append(f"loaded the weights under {candidate.name!r}")
    if others:
        names = [other.name or "the file itself" for other in others]
        options = " or ".join(f"--state-dict {name}" for name in names)
        sentences.append(
            f"skipped other weights under {' and '.join(map(repr, names))}: megavit convert {options} loads those"
        )
    if replaced:
        sentences.append(f"used {replaced[0]!r} as the classifier")
    if contents.unread:
        some = ", ".join(contents.unread[:5]) + (" …" if len(contents.unread) > 5 else "")
        sentences.append(f"skipped other objects in the file, as loading them could run code: {some}")
    return sentences


def describe_left_out(names: Sequence[str]) -> str:
    """Return a sentence on tensors that do not belong to the image model."""
    some = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
    what = "a tensor that is" if len(names) == 1 else f"{len(names)} tensors that are"
    return f"left out {what} not part of the image model: {some}"


def describe_assumptions(assumed: Mapping[str, Any]) -> str:
    """Return a sentence on the assumed fields of a model, with the flags that correct them."""
    values = ", ".join(f"{FIELD_LABELS.get(name, name)} {_as_text(value)}" for name, value in assumed.items())
    flags = " ".join(FLAGS[name] for name in assumed if name in FLAGS)
    correction = f"; if the model has other values, set them with megavit convert: {flags}" if flags else ""
    return f"assumed, as the files do not specify it: {values}{correction}"


def _as_text(value: Any) -> str:
    return " × ".join(map(str, value)) if isinstance(value, tuple) else f"{value}"


def choose_candidate(
    contents: Contents, state_dict: str | None, where: str, architecture: object = None
) -> tuple[Candidate, list[Candidate]]:
    """Return the candidate named `state_dict`, or the best, and the others; raise a BundleError if there is none."""
    candidates = find_candidates(contents.tables)
    if not candidates:
        raise BundleError(unknown_format(contents, where, architecture))
    chosen = next((candidate for candidate in candidates if state_dict in (None, candidate.name)), None)
    if chosen is None:
        names = ", ".join(repr(candidate.name) for candidate in candidates)
        raise BundleError(f"{where} has no weights under {state_dict!r}, only under {names}")
    return chosen, [candidate for candidate in candidates if candidate is not chosen]


def unknown_format(contents: Contents, where: str, architecture: object) -> str:
    """Return the error message for tensors of an unknown format."""
    tensors = max(contents.tables.values(), key=len)
    if any(".lora_A." in name for name in tensors):
        return (
            f"{where} has LoRA matrices separate from the weights: merge them where the model was trained "
            "(model.merge_and_unload() of peft), and save the merged model"
        )
    first = ", ".join(list(tensors)[:4])
    named = f", which config.json calls {architecture}," if architecture else ""
    return (
        f"{where}{named} has an unknown format: its {len(tensors)} tensors begin with {first}. "
        f"Supported are the plain Vision Transformers of {', '.join(supported.name for supported in FORMATS)}"
    )


def check_dtypes(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise a BundleError if any tensor is not a dense floating-point array."""
    faults = [f"  {name}: {fault}" for name, tensor in tensors.items() if (fault := _fault(tensor))]
    if faults:
        raise BundleError(
            "\n".join(
                [
                    f"{where} has weights that are not dense floating-point tensors; save the model before it is "
                    "quantized or packed:",
                    *faults[:10],
                    *(["  …"] if len(faults) > 10 else []),
                ]
            )
        )


def _fault(tensor: Tensor) -> str:
    if tensor.is_quantized:
        return f"is quantized ({str(tensor.dtype).removeprefix('torch.')})"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "is sparse or nested: use tensor.to_dense()"
    if tensor.device.type == "meta":
        return "has no data (it is on the meta device)"
    if tensor.dtype not in FLOATS:
        return f"has dtype {str(tensor.dtype).removeprefix('torch.')}"
    return ""


def check_overrides(
    checkpoint_format: CheckpointFormat, shapes: Shapes, facts: Overrides, overrides: Overrides
) -> None:
    """Raise a BundleError if the overrides contradict the pooling or activation that the tensors determine."""
    for name in [name for name in ("pool", "mlp") if name in overrides]:
        config = checkpoint_format.config(shapes, {fact: value for fact, value in facts.items() if fact != name})
        if name not in checkpoint_format.undetermined(config) and get_field(config, name) != overrides[name]:
            raise BundleError(
                f"{FLAGS[name]} {overrides[name]} does not fit the tensors, which are those of a "
                f"{checkpoint_format.name} model with {FIELD_LABELS.get(name, name)} {get_field(config, name)}: "
                "leave it out"
            )


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise a BundleError if any tensor has NaN or infinite values, as after a failed training."""
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        some = ", ".join(broken[:5]) + (" …" if len(broken) > 5 else "")
        raise BundleError(
            f"{where} has {len(broken)} tensors with NaN or infinite values: {some}; use another checkpoint"
        )
