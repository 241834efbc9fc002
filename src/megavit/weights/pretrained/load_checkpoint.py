"""A checkpoint of another library, as our model: which library's it is, its config, its weights by our names."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.weights.pretrained.candidates import Candidate, candidates
from megavit.weights.pretrained.checkpoint_files import Contents, find_checkpoint, read_checkpoint
from megavit.weights.pretrained.formats import FORMATS, CheckpointFormat, check_type
from megavit.weights.pretrained.heads.heads import with_head_beside, with_own_head
from megavit.weights.pretrained.mappings.key_mapping import Shapes, check_shapes, to_ours
from megavit.weights.pretrained.mappings.shapes import Known, field_of
from megavit.weights.pretrained.processors.hf_processor import NESTED, PROCESSOR
from megavit.weights.pretrained.processors.image_processor import usable

# How fields are called for users, and what tells `megavit convert` their values.
NAMED = {
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
SETTINGS = ("open_clip_config.json", "config.json")


FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, kw_only=True)
class Found:
    """Where in a file the weights were.

    Attributes:
        name: the tables and the prefix under which they are; "" for the file itself.
        others: the same of other weights in it, which could have been read too.
        head: where the classifier was, when it was not where the library has it; else "".
        unread: classes and functions that the file names, and that were neither imported nor called.
    """

    name: str = ""
    others: tuple[str, ...] = ()
    head: str = ""
    unread: tuple[str, ...] = ()

    def told(self) -> list[str]:
        """Return a sentence on each of these that is worth one."""
        sentences = []
        if self.name:
            sentences.append(f"the weights under {self.name!r} taken")
        if self.others:
            options = " or ".join(f"--state-dict {name}" for name in self.others)
            others = " and ".join(map(repr, self.others))
            sentences.append(f"other weights left, under {others}: megavit convert {options} takes those")
        if self.head:
            sentences.append(f"{self.head!r} taken as the classifier")
        if self.unread:
            some = ", ".join(self.unread[:5]) + (" …" if len(self.unread) > 5 else "")
            sentences.append(f"objects beside the weights not loaded, as that could run code: {some}")
        return sentences


@dataclass(frozen=True, kw_only=True)
class ForeignCheckpoint:
    """What was read.

    Attributes:
        format: whose it has.
        config: of the model.
        tensors: by the names of our `state_dict`.
        left_out: names of tensors that are not of the image classifier, such as those of a text tower.
        assumed: what neither the tensors nor the settings tell, with what it was taken to be: fields of `ViTConfig`
            and `Design`, and other names that a layout gives.
        found: where in the file it was.
        settings: what its config.json says, or open_clip_config.json; {} where there is none.
        processor: what Hugging Face's image processor is told of how images are prepared; {} where there is none.
    """

    format: str
    config: ViTConfig
    tensors: dict[str, Tensor]
    left_out: tuple[str, ...]
    assumed: dict[str, Any]
    found: Found
    settings: dict[str, Any]
    processor: dict[str, Any]


def load_checkpoint(path: Path, known: Known, weights: str | None = None) -> ForeignCheckpoint:
    """The model in `path`, a checkpoint or a folder with one and perhaps a config.json.

    Args:
        path: of the file or folder.
        known: facts that go before what the files say: names of `ViTConfig` and `Design`, with their values.
        weights: which are meant, where a file has those of several models: `Candidate.name`.

    Raises:
        BundleError: when it cannot be read, is of no layout that is known, or does not fit the one it is of: one
            error that lists every missing, extra and misshapen tensor.
        ConfigError: when its sizes do not fit together.
    """
    settings = settings_in(path) if path.is_dir() else {}
    check_type(settings)
    file = find_checkpoint(path) if path.is_dir() else path
    contents = read_checkpoint(file)
    taken, others = choose(contents, weights, str(file), settings.get("architecture"))
    layout = taken.format
    names = layout.names(taken.tensors)
    named = {theirs: taken.tensors[name] for name, theirs in names.items()}
    kept, replaced = with_own_head(named, layout.head, str(file)) if layout.head else (named, ())
    check_numbers(kept, str(file))
    kept = layout.tidy(kept)
    shapes = {name: tuple(tensor.shape) for name, tensor in kept.items()}
    with usable("of its sizes and parts") if settings else nullcontext():
        facts = {**(layout.known(settings) if settings else {}), **known}
        config = layout.config_of(shapes, facts)
        if layout.head and not config.num_classes:
            kept, replaced = with_head_beside(kept, taken.beside, layout.head, config.dim, taken.prefix)
            shapes = {name: tuple(tensor.shape) for name, tensor in kept.items()}
            config = layout.config_of(shapes, facts)
    check_told(layout, shapes, facts, config, known)
    rules = layout.table(config)
    check_shapes(rules, shapes, str(file))
    check_finite(kept, str(file))
    left_out = {*(name for name in taken.tensors if name not in names), *taken.beside}
    return ForeignCheckpoint(
        format=layout.name,
        config=config,
        tensors=to_ours(rules, kept, config),
        left_out=tuple(sorted(name for name in left_out if name.rpartition(".")[0] not in replaced)),
        assumed={name: value for name, value in layout.assumed(config).items() if name not in facts},
        found=Found(
            name=taken.name,
            others=tuple(one.name or "the file itself" for one in others),
            head=next(iter(replaced), ""),
            unread=contents.unread,
        ),
        settings=settings,
        processor=processor_in(path) if path.is_dir() else {},
    )


def choose(
    contents: Contents, weights: str | None, where: str, architecture: object = None
) -> tuple[Candidate, list[Candidate]]:
    """Return the candidate that is meant, and the others.

    Args:
        architecture: that timm's config.json names; None where there is none.

    Raises:
        BundleError: when there is none, or none called `weights`.
    """
    found = candidates(contents.tables)
    if not found:
        raise BundleError(unknown_layout(contents, where, architecture))
    taken = next((one for one in found if weights in (None, one.name)), None)
    if taken is None:
        there = ", ".join(repr(one.name) for one in found)
        raise BundleError(f"{where} has no weights under {weights!r}; it has some under {there}")
    return taken, [one for one in found if one is not taken]


def unknown_layout(contents: Contents, where: str, architecture: object) -> str:
    """Return the message for tensors that are of no model that can be read."""
    tensors = max(contents.tables.values(), key=len)
    if any(".lora_A." in name for name in tensors):
        return (
            f"{where} has LoRA's matrices apart from the weights; join them where it was trained "
            "(model.merge_and_unload() of peft) and save the whole model"
        )
    first = ", ".join(list(tensors)[:4])
    named = f", which config.json calls {architecture}," if architecture else ""
    return (
        f"{where}{named} is of no layout that is known: its {len(tensors)} tensors begin with {first}. "
        f"Known are the plain Vision Transformers of {', '.join(layout.name for layout in FORMATS)}"
    )


def check_numbers(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise a BundleError that names the tensors which are no plain arrays of floating-point numbers."""
    faults = [f"  {name}: {fault}" for name, tensor in tensors.items() if (fault := _fault(tensor))]
    if faults:
        raise BundleError(
            "\n".join(
                [
                    f"{where} has weights that are not plain floating-point numbers; save the model as it was before "
                    "it was quantized or packed:",
                    *faults[:10],
                    *(["  …"] if len(faults) > 10 else []),
                ]
            )
        )


def _fault(tensor: Tensor) -> str:
    if tensor.is_quantized:
        return f"is quantized ({str(tensor.dtype).removeprefix('torch.')})"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "is sparse or nested; tensor.to_dense() is not"
    if tensor.device.type == "meta":
        return "has no numbers (it is on the meta device)"
    if tensor.dtype not in FLOATS:
        return f"is of type {str(tensor.dtype).removeprefix('torch.')}"
    return ""


def check_told(layout: CheckpointFormat, shapes: Shapes, facts: Known, config: ViTConfig, given: Known) -> None:
    """Raise a BundleError when the caller gives another pooling or activation than the tensors themselves tell."""
    for name in [name for name in ("pool", "mlp") if name in given]:
        told = layout.config_of(shapes, {fact: value for fact, value in facts.items() if fact != name})
        if name not in layout.assumed(told) and field_of(told, name) != field_of(config, name):
            raise BundleError(
                f"{FLAGS[name]} {given[name]} does not fit: the tensors, of {layout.name}, are of a model with "
                f"{NAMED.get(name, name)} {field_of(told, name)}; leave it out"
            )


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise a BundleError that names the tensors with values that are no numbers: a training that failed was saved."""
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        some = ", ".join(broken[:5]) + (" …" if len(broken) > 5 else "")
        raise BundleError(f"{where} has {len(broken)} tensors with values that are not finite: {some}; take another")


def assumptions(assumed: Mapping[str, Any]) -> str:
    """Return the sentence on what was assumed of a model, and how to say otherwise; "" when nothing was."""
    if not assumed:
        return ""
    values = ", ".join(f"{NAMED.get(name, name)} {_shown(value)}" for name, value in assumed.items())
    flags = " ".join(FLAGS[name] for name in assumed if name in FLAGS)
    otherwise = f"; where it had others, tell megavit convert: {flags}" if flags else ""
    return f"assumed, as the files do not say it: {values}{otherwise}"


def _shown(value: Any) -> str:
    return " × ".join(map(str, value)) if isinstance(value, tuple) else f"{value}"


def settings_in(folder: Path) -> dict[str, Any]:
    """What the model's own settings say, with how its images are prepared; {} where there are none."""
    for name in SETTINGS:
        settings = read_settings(folder / name)
        if settings:
            return settings
    return {}


def processor_in(folder: Path) -> dict[str, Any]:
    """Return the settings of Hugging Face's image processor; {} where there are none.

    A processor of images and texts has them in a file of its own, which goes first, as in transformers.
    """
    nested = read_settings(folder / NESTED).get("image_processor")
    return nested if isinstance(nested, dict) else read_settings(folder / PROCESSOR)


def read_settings(path: Path) -> dict[str, Any]:
    """What a JSON file of settings says; {} where there is none."""
    try:
        settings = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from None
    if not isinstance(settings, dict):
        raise BundleError(f"{path} must hold a table of settings")
    return settings
