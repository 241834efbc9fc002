"""A checkpoint of another library, as our model: which library's it is, its config, its weights by our names."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from megavit.config.vit import ViTConfig
from megavit.errors import BundleError
from megavit.weights.files import find_checkpoint, read_checkpoint
from megavit.weights.hf_processor import NESTED, PROCESSOR
from megavit.weights.keys import check_shapes, to_ours
from megavit.weights.layouts import LAYOUTS, Layout
from megavit.weights.peers.shapes import Known
from megavit.weights.preparation import usable

SETTINGS = ("open_clip_config.json", "config.json")


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """What was read.

    Attributes:
        layout: whose it has.
        config: of the model.
        tensors: by the names of our `state_dict`.
        left_out: names of tensors that are not of the image classifier, such as those of a text tower.
        heads_guessed: whether nothing but the width tells how many heads there are.
        settings: what its config.json says, or open_clip_config.json; {} where there is none.
        processor: what Hugging Face's image processor is told of how images are prepared; {} where there is none.
    """

    layout: str
    config: ViTConfig
    tensors: dict[str, Tensor]
    left_out: tuple[str, ...]
    heads_guessed: bool
    settings: dict[str, Any]
    processor: dict[str, Any]


def read_foreign(path: Path, known: Known) -> Foreign:
    """The model in `path`, a checkpoint or a folder with one and perhaps a config.json.

    Args:
        known: facts that go before what the files say: names of `ViTConfig` and `Design`, with their values.

    Raises:
        BundleError: when it cannot be read, is of no layout that is known, or does not fit the one it is of: one
            error that lists every missing, extra and misshapen tensor.
        ConfigError: when its sizes do not fit together.
    """
    file = find_checkpoint(path) if path.is_dir() else path
    settings = settings_in(path) if path.is_dir() else {}
    tensors = read_checkpoint(file)
    layout = layout_of(tensors, str(file))
    names = layout.names(tensors)
    kept = layout.tidy({theirs: tensors[name] for name, theirs in names.items()})
    shapes = {name: tuple(tensor.shape) for name, tensor in kept.items()}
    with usable("of its sizes and parts") if settings else nullcontext():
        known = {**(layout.known(settings) if settings else {}), **known}
        config = layout.config_of(shapes, known)
    rules = layout.table(config)
    check_shapes(rules, shapes, str(file))
    check_finite(kept, str(file))
    return Foreign(
        layout=layout.name,
        config=config,
        tensors=to_ours(rules, kept, config),
        left_out=tuple(sorted(set(tensors) - set(names))),
        heads_guessed=not settings and "heads" not in known and not config.design.qk_norm,
        settings=settings,
        processor=processor_in(path) if path.is_dir() else {},
    )


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise a BundleError that names the tensors with values that are no numbers: a training that failed was saved."""
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        some = ", ".join(broken[:5]) + (" …" if len(broken) > 5 else "")
        raise BundleError(f"{where} has {len(broken)} tensors with values that are not finite: {some}; take another")


def layout_of(tensors: Mapping[str, Tensor], where: str) -> Layout:
    """The one most of whose telling names are there, all of them."""
    fitting = [layout for layout in LAYOUTS if layout.told_by <= set(layout.names(tensors).values())]
    if fitting:
        return max(fitting, key=lambda layout: len(layout.told_by))
    first = ", ".join(list(tensors)[:4])
    raise BundleError(
        f"{where} is of no layout that is known: its {len(tensors)} tensors begin with {first}. "
        f"Known are the plain Vision Transformers of {', '.join(layout.name for layout in LAYOUTS)}"
    )


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
