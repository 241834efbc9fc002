"""Weights to begin with: where they come from, and how they get into a model that may differ in size."""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from megavit.config.calibration import Calibration
from megavit.config.preprocessing import Preprocessing
from megavit.config.target import Target, TargetKind
from megavit.config.vit import ViTConfig
from megavit.errors import BundleError, ConfigError
from megavit.model.pos_embed import LearnedPositions
from megavit.model.vit import MegaVit
from megavit.weights.bundle.bundle import Bundle, is_bundle, load_bundle
from megavit.weights.pretrained.heads.head import unfolded_head
from megavit.weights.pretrained.heads.problem_type import target_of
from megavit.weights.pretrained.hub import HUB, TIMM, download, is_hub_name
from megavit.weights.pretrained.load_checkpoint import ForeignCheckpoint, assumptions, load_checkpoint
from megavit.weights.pretrained.mappings.shapes import Known
from megavit.weights.pretrained.processors.image_processor import label_faults, labels_of, preprocessing_of

OURS, CLIP, OPEN_CLIP = "megavit", "Hugging Face's CLIP and SigLIP", "OpenCLIP"
HEAD, TABLE, PATCHES = "mlp_head.", "positions.table", "patch_embedding.projection.weight"


@dataclass(frozen=True, kw_only=True)
class PretrainedModel:
    """A model that has been trained before.

    Attributes:
        name: as the user gave it.
        config: its sizes and parts.
        tensors: its weights, by the names of our `state_dict`.
        preprocessing: of its images; None: not known.
        labels: of its classes, where it has a head; "class 0" and so on where they are not known.
        format: whose library's it is.
        notes: sentences on what was read.
        target: what its outputs mean.
        calibration: what a bundle's probabilities were calibrated by; as nothing was fitted, elsewhere.
    """

    name: str
    config: ViTConfig
    tensors: dict[str, Tensor]
    preprocessing: Preprocessing | None
    labels: tuple[str, ...] = ()
    format: str = OURS
    notes: tuple[str, ...] = ()
    target: Target = field(default_factory=Target)
    calibration: Calibration = field(default_factory=Calibration)


def load_pretrained(
    source: str,
    known: Known | None = None,
    *,
    weights: str | None = None,
    target: TargetKind | None = None,
    whole_images: bool = False,
    head: bool = True,
) -> PretrainedModel:
    """The weights that a user named.

    Args:
        source: the folder of a bundle, or of a run that has one; a checkpoint of another library, or a folder with
            one; timm:NAME or hf-hub:USER/NAME.
        known: of another library's model, facts that go before what its files say: names of `ViTConfig` and
            `Design`, with their values.
        target: of another library's model, what its outputs mean; None: as its files say.
        weights: which of the weights in the file, where it has those of several models: the tables and the prefix.
        whole_images: of another library's model, take only what becomes of pixel values from its settings, as for a
            training, which uses the whole image at a size of its own.
        head: of another library's model, look at what its outputs mean; False for a training, which has a new head.

    Raises:
        BundleError: saying what it may be, or what is wrong with it.
        ConfigError: when the sizes of a model do not fit together.
    """
    path = download(source) if is_hub_name(source) else Path(source)
    if not path.exists():
        raise BundleError(
            f"there is no {source}; weights can be the folder of a bundle or of a training run, a checkpoint or a "
            f"folder of another library, {TIMM}NAME or {HUB}USER/NAME"
        )
    if path.is_dir() and is_bundle(path):
        given = [*(known or ()), *(["weights"] if weights else []), *(["target"] if target else [])]
        if given:
            raise ConfigError(f"{source} is a bundle, which says its {' and '.join(given)} itself; leave that out")
        return _from_bundle(source, load_bundle(path))
    foreign = load_checkpoint(path, known or {}, weights)
    preprocessing = preprocessing_of(
        foreign.config,
        foreign.settings,
        foreign.processor,
        open_clip=foreign.format == "OpenCLIP",
        whole_images=whole_images,
    )
    read = _from_foreign(source, foreign, preprocessing)
    return _with_meaning(read, foreign, target) if head else read


def _from_bundle(source: str, bundle: Bundle) -> PretrainedModel:
    return PretrainedModel(
        name=source,
        config=bundle.model.config,
        tensors=dict(bundle.model.state_dict()),
        preprocessing=bundle.info.preprocessing,
        labels=tuple(bundle.info.labels),
        target=bundle.info.target,
        calibration=bundle.info.calibration,
    )


def _from_foreign(source: str, foreign: ForeignCheckpoint, preprocessing: Preprocessing | None) -> PretrainedModel:
    told = [f"read as {foreign.format}", *foreign.found.told()]
    if foreign.left_out:
        some = ", ".join(foreign.left_out[:3]) + (" …" if len(foreign.left_out) > 3 else "")
        count = len(foreign.left_out)
        what = "a tensor that is" if count == 1 else f"{count} tensors that are"
        told.append(f"left out {what} not of the image model: {some}")
    if foreign.assumed:
        told.append(assumptions(foreign.assumed))
    if preprocessing is not None and (preprocessing.height, preprocessing.width) != foreign.config.image_hw:
        made = "{} × {}".format(*foreign.config.image_hw)
        given = f"{preprocessing.height} × {preprocessing.width}"
        told.append(f"made for images of {made} pixels, and given {given}: positions are resampled")
    if preprocessing is None:
        told.append("nothing says how its images are prepared; taken to be resized whole, with mean and std 0.5")
    return PretrainedModel(
        name=source,
        config=foreign.config,
        tensors=foreign.tensors,
        preprocessing=preprocessing,
        format=foreign.format,
        notes=tuple(told),
    )


def _with_meaning(source: PretrainedModel, foreign: ForeignCheckpoint, asked: TargetKind | None) -> PretrainedModel:
    """Return `source` with what its outputs mean, and what they are called.

    Raises:
        BundleError: for what a bundle's outputs cannot mean.
    """
    outputs = foreign.config.num_classes
    target, told = target_of(foreign.settings, outputs, asked)
    if outputs and asked is None and _is_projection(foreign):
        told = [
            f"the {outputs} outputs are CLIP's projection, to be compared with those of texts, and no classes: what "
            "megavit predict says of them means nothing; megavit embed and train --init use what comes before them"
        ]
    labels: tuple[str, ...] = ()
    if target.kind != "regression":
        told += label_faults(foreign.settings, outputs)
        labels = labels_of(foreign.settings, outputs)
    return replace(
        source,
        tensors=unfolded_head(source.tensors, target),
        labels=labels,
        notes=(*source.notes, *told),
        target=target,
    )


def _is_projection(foreign: ForeignCheckpoint) -> bool:
    """Whether the head is the projection of CLIP's image tower into the space that it shares with texts."""
    return foreign.format == OPEN_CLIP or (foreign.format == CLIP and foreign.config.pool == "cls")


def fingerprint(source: PretrainedModel) -> str:
    """SHA-256, in hex, that changes with any weight, size or part."""
    whole = hashlib.sha256(repr(source.config).encode())
    for name, tensor in sorted(source.tensors.items()):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()


def initialize_from(model: MegaVit, source: PretrainedModel, *, head: bool = False) -> list[str]:
    """Put the weights of `source` into `model`, which differs at most in image size, classes and channels.

    Learned positions are resampled for another grid, as `LearnedPositions.at` does for a larger image. Of a model
    of one channel, the patch embedding gets the sum over the source's: it answers for a gray image what the source
    does for the same in every channel.

    Args:
        head: take the classifier over as well; else the model keeps its own.

    Returns:
        Sentences on what was changed, and what was not taken over.

    Raises:
        BundleError: one that lists every weight that does not fit; the model is then as it was.
    """
    tensors = dict(source.tensors)
    with torch.device("meta"):
        _refuse(_faults(tensors, MegaVit.from_config(source.config).state_dict(), head), source)
    old, new = source.config, model.config
    told: list[str] = []
    if TABLE in tensors and old.grid != new.grid:
        tensors[TABLE] = _resampled(tensors[TABLE], old, new)
        (rows, columns), (new_rows, new_columns) = old.grid, new.grid
        told.append(f"positions resampled from {rows} × {columns} to {new_rows} × {new_columns} patches")
    if old.channels != new.channels:
        if new.channels != 1:
            raise BundleError(
                f"the weights of {source.name} are for images of {old.channels} channels, and cannot be made to fit "
                f"{new.channels}; only to one channel can they be added up: leave model.channels out, or use images "
                f"of {old.channels} channels"
            )
        # (D, channels × pixels), channel by channel.
        tensors[PATCHES] = tensors[PATCHES].unflatten(1, (old.channels, -1)).sum(dim=1)
        told.append(f"the patch embedding added up over its {old.channels} channels, for gray images")
    expected = model.state_dict()
    if not head:
        own = {name: tensor for name, tensor in expected.items() if name.startswith(HEAD)}
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(HEAD)} | own
        told += [f"a new head, of {model.config.num_classes} outputs"] if own else []
    _refuse(_faults(tensors, expected, head=True), source)
    model.load_state_dict(tensors)
    return told


def _faults(tensors: dict[str, Tensor], expected: dict[str, Tensor], head: bool) -> list[str]:
    """A line for each of `tensors` that is missing, too many, or of another shape; unless `head`, not of the head's."""
    wanted = {name: tensor for name, tensor in expected.items() if head or not name.startswith(HEAD)}
    return [
        *(f"  {name}: is missing" for name in wanted if name not in tensors),
        *(
            f"  {name}: is not of this model"
            for name in tensors
            if name not in wanted and (head or not name.startswith(HEAD))
        ),
        *(
            f"  {name}: has shape {tuple(tensors[name].shape)}, expected {tuple(wanted[name].shape)}"
            for name in wanted
            if name in tensors and tensors[name].shape != wanted[name].shape
        ),
    ]


def _refuse(faults: list[str], source: PretrainedModel) -> None:
    if faults:
        raise BundleError("\n".join([f"the weights of {source.name} do not fit the model:", *faults]))


@torch.no_grad()
def _resampled(table: Tensor, old: ViTConfig, new: ViTConfig) -> Tensor:
    positions = LearnedPositions(old)
    positions.table.copy_(table)
    return positions.at(new.grid).clone()
