"""Load pretrained models from bundles, checkpoints of other libraries and the Hugging Face hub."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from megavit.config.calibration import Calibration
from megavit.config.preprocessing import Preprocessing
from megavit.config.target import Target, TargetKind
from megavit.config.vit import ViTConfig
from megavit.data.dataset import read_samples
from megavit.errors import BundleError, ConfigError
from megavit.runtime.hub import HUB, TIMM, download, is_hub_name
from megavit.weights.bundle.bundle import SAMPLES, find_bundle, is_bundle, load_bundle
from megavit.weights.pretrained.classifier import unfold_target
from megavit.weights.pretrained.load_checkpoint import ForeignCheckpoint, load_checkpoint
from megavit.weights.pretrained.mappings.config_from_shapes import Overrides
from megavit.weights.pretrained.mappings.hf_clip import HF_CLIP
from megavit.weights.pretrained.mappings.open_clip import OPEN_CLIP
from megavit.weights.pretrained.origin import Origin, bundle_origin, read_origin
from megavit.weights.pretrained.outputs import class_names, infer_target
from megavit.weights.pretrained.processors.image_processor import read_preprocessing

MEGAVIT = "megavit"


@dataclass(frozen=True, kw_only=True)
class PretrainedModel:
    """A pretrained model: weights, config, preprocessing and the meaning of its outputs.

    Attributes:
        name: source as the user gave it.
        config: config of the model.
        tensors: weights, by the names of MegaVit's `state_dict`.
        preprocessing: preprocessing of its images; None if unknown.
        labels: names of its classes if it has a head; "class 0" and so on if unknown.
        format: name of the checkpoint format; `MEGAVIT` for a bundle.
        notes: sentences on how the source was interpreted.
        target: meaning of its outputs.
        calibration: calibration of a bundle's probabilities; the default for other sources.
        origin: place that the weights come from, and their license.
        image_size: side in pixels of the square that its own images are prepared to; None if unknown or oblong.
        cosine_dim: as in `BundleInfo`.
        seen: digests of the images that a bundle was trained on or selected by; none for other sources.
        is_pretraining: whether it is of `megavit pretrain` from random weights, so that it knows no images but those.
    """

    name: str
    config: ViTConfig
    tensors: dict[str, Tensor]
    preprocessing: Preprocessing | None
    labels: tuple[str, ...] = ()
    format: str = MEGAVIT
    notes: tuple[str, ...] = ()
    target: Target = field(default_factory=Target)
    calibration: Calibration = field(default_factory=Calibration)
    origin: Origin = field(default_factory=Origin)
    image_size: int | None = None
    cosine_dim: int = 0
    seen: frozenset[str] = frozenset()
    is_pretraining: bool = False


def load_pretrained(
    source: str,
    overrides: Overrides | None = None,
    *,
    state_dict: str | None = None,
    target: TargetKind | None = None,
    pixel_values_only: bool = False,
    head: bool = True,
) -> PretrainedModel:
    """Load a pretrained model from a bundle, a checkpoint or the Hugging Face hub.

    Arguments other than `source` apply only to models of other libraries.

    Args:
        source: folder of a bundle or training run, checkpoint file or folder, timm:NAME or hf-hub:USER/NAME.
        overrides: values of fields of `ViTConfig` and `Design` that take precedence over the files.
        state_dict: name of the state dict to load from a file with several: its tables and prefix.
        target: meaning of the outputs; None to infer it from the files.
        pixel_values_only: whether to read only the normalization, as training resizes images without a crop.
        head: whether to interpret the outputs; False for training, which uses a new head.

    Raises:
        BundleError: if the source does not exist or cannot be read.
        ConfigError: if the sizes of the model are inconsistent, or a bundle is given with arguments that it determines.
    """
    path = download(source) if is_hub_name(source) else Path(source)
    if not path.exists():
        raise BundleError(
            f"{source} does not exist: pass the folder of a bundle or of a training run, a checkpoint or a folder of "
            f"another library, {TIMM}NAME or {HUB}USER/NAME"
        )
    if path.is_dir() and is_bundle(path):
        given = [*(overrides or ()), *(["weights"] if state_dict else []), *(["target"] if target else [])]
        if given:
            raise ConfigError(f"{source} is a bundle, which defines its {' and '.join(given)}: leave that out")
        return _from_bundle(source, path)
    foreign = load_checkpoint(path, overrides or {}, state_dict)
    preprocessing = read_preprocessing(
        foreign.config,
        foreign.settings,
        foreign.processor,
        open_clip=foreign.format == OPEN_CLIP.name,
        pixel_values_only=pixel_values_only,
    )
    tensors, notes, labels, meaning = foreign.tensors, [*foreign.notes], (), Target()
    notes += describe_preprocessing(foreign.config, preprocessing)
    if head:
        outputs = foreign.config.num_classes
        meaning, assumptions = infer_target(foreign.settings, outputs, target)
        if outputs and target is None and _is_projection(foreign):
            assumptions = [
                f"the {outputs} outputs are CLIP's projection, to be compared with text embeddings, not classes: "
                "predictions from them are meaningless; megavit embed and train --from use the features before them"
            ]
        notes += assumptions
        tensors = unfold_target(tensors, meaning)
        if meaning.kind != "regression":
            labels, unnamed = class_names(foreign.settings, outputs)
            notes += unnamed
    return PretrainedModel(
        name=source,
        config=foreign.config,
        tensors=tensors,
        preprocessing=preprocessing,
        labels=labels,
        format=foreign.format,
        notes=tuple(notes),
        target=meaning,
        origin=read_origin(source, path, foreign.settings),
        image_size=_own_image_size(foreign),
    )


def _from_bundle(source: str, path: Path) -> PretrainedModel:
    bundle = load_bundle(path)
    model = bundle.single_model
    return PretrainedModel(
        name=source,
        config=model.config,
        tensors=dict(model.state_dict()),
        preprocessing=bundle.info.preprocessing,
        labels=tuple(bundle.info.labels),
        target=bundle.info.target,
        calibration=bundle.info.calibration,
        cosine_dim=bundle.info.cosine_dim,
        origin=bundle_origin(path, bundle.info),
        image_size=model.config.image_hw[0] if len(set(model.config.image_hw)) == 1 else None,
        seen=frozenset(row.digest for row in read_samples(find_bundle(path) / SAMPLES) if row.split != "test"),
        is_pretraining="pretraining" in bundle.info.data and "origin" not in bundle.info.data,
    )


def _own_image_size(foreign: ForeignCheckpoint) -> int | None:
    """Return the side of the square, in whole patches, that the files prepare images to; None if they do not say."""
    try:
        found = read_preprocessing(
            foreign.config, foreign.settings, foreign.processor, open_clip=foreign.format == OPEN_CLIP.name
        )
    except BundleError:  # training resizes in its own way
        return None
    return found.height if found is not None and found.height == found.width else None


def describe_preprocessing(config: ViTConfig, preprocessing: Preprocessing | None) -> list[str]:
    """Return sentences on preprocessing that is unknown or has another image size than the model."""
    if preprocessing is None:
        return ["the files do not specify the preprocessing: images are resized without a crop, with mean and std 0.5"]
    if (preprocessing.height, preprocessing.width) == config.image_hw:
        return []
    height, width = config.image_hw
    return [
        f"the model is for images of {height} × {width} pixels, but its preprocessing returns {preprocessing.height} × "
        f"{preprocessing.width}: positions are resampled"
    ]


def _is_projection(foreign: ForeignCheckpoint) -> bool:
    return foreign.format == OPEN_CLIP.name or (foreign.format == HF_CLIP.name and foreign.config.pool == "cls")


def fingerprint(pretrained: PretrainedModel) -> str:
    """Return a hex SHA-256 of the config and weights."""
    digest = hashlib.sha256(repr(pretrained.config).encode())
    for name, tensor in sorted(pretrained.tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
