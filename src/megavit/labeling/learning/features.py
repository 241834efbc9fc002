"""Describe images by a backbone or a trained model, or without one by the colors and edges of their thumbnails."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from megavit.config.backbones import BACKBONES
from megavit.config.recipe import AUTO, SCRATCH
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.image_dataset import preprocess, resize
from megavit.data.scan import Candidate, ImageInfo, Listing, scan_images
from megavit.engine.engine import Engine
from megavit.engine.ensemble import EnsembleEngine
from megavit.errors import ConfigError
from megavit.evaluation.probes.hog import describe_images
from megavit.labeling.images import ImageList
from megavit.predict.predictor import load
from megavit.training.backbone_engine import find_backbone_engine, make_backbone_engine
from megavit.training.progress import Reporter
from megavit.weights.backbones.fetch import load_source
from megavit.weights.bundle.bundle import INFO

SAMPLE_IMAGES = 100
"""Number of images that are looked at to find out whether they are photographs."""
_PLAIN_SIDE = 48


class Features(Protocol):
    """A way to describe images by vectors; equal keys give equal vectors."""

    name: str
    key: str

    def compute(self, thumbnails: Sequence[Tensor]) -> Tensor:
        """Return float32 (N, D) for thumbnails, uint8 (3, height, width)."""
        ...


class PlainFeatures:
    """Histograms of the gradients and colors of thumbnails."""

    name = "the colors and edges of the thumbnails"
    key = f"plain-{_PLAIN_SIDE}"

    def compute(self, thumbnails: Sequence[Tensor]) -> Tensor:
        """Return float32 (N, D)."""
        return describe_images(torch.stack([resize(image, _PLAIN_SIDE, _PLAIN_SIDE) for image in thumbnails]))


class ModelFeatures:
    """The embeddings of a model."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.name = name
        self._engine = engine
        digest = hashlib.sha256(repr((engine.model.config, engine.preprocessing)).encode())
        for tensor in engine.model.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        self.key = f"model-{digest.hexdigest()[:16]}"

    def compute(self, thumbnails: Sequence[Tensor]) -> Tensor:
        """Return float32 (N, D)."""
        preprocessing = self._engine.preprocessing
        images = [
            preprocess(image, preprocessing.size_for(image.shape[1], image.shape[2]), preprocessing)
            for image in thumbnails
        ]
        return self._engine(images if preprocessing.keep_aspect else torch.stack(images)).pooled.float()


def load_features(
    source: str | os.PathLike[str], images: ImageList, order: Sequence[int], device: torch.device, reporter: Reporter
) -> Features:
    """Return the features that `--from` names, for "auto" those of a backbone on this machine if there is one.

    Args:
        order: indices of the images in random order.

    Raises:
        BundleError, ConfigError, OutputError: if the model cannot be found, fetched or read, or takes other channels.
    """
    name = os.fspath(source)
    if name == SCRATCH:
        return PlainFeatures()
    if name == AUTO:
        dataset = _sample(images, order)
        found = None if dataset is None else find_backbone_engine(dataset, device, reporter)
        return PlainFeatures() if found is None else ModelFeatures(found.engine, found.backbone.name)
    if name not in BACKBONES and any((folder / INFO).is_file() for folder in (Path(name), Path(name) / "bundle")):
        loaded = load(name, device=str(device)).engine
        # The embedding of an ensemble is that of its first model.
        engine = loaded.engines[0] if isinstance(loaded, EnsembleEngine) else loaded
    else:
        engine = make_backbone_engine(load_source(name, reporter.say), device)
    if engine.preprocessing.channels not in (1, 3):
        raise ConfigError(
            f"{name} takes images of {engine.preprocessing.channels} channels, and the page shows one or three: "
            f"choose another model with --from, or {SCRATCH}"
        )
    return ModelFeatures(engine, name if name in BACKBONES else Path(name).name)


def _sample(images: ImageList, order: Sequence[int]) -> LabeledImages | None:
    """Return some of the images as a data set of one class; None if none can be read."""
    names = [images.names[index] for index in order[:SAMPLE_IMAGES]]
    candidates = tuple(Candidate(name, "", "train") for name in names)
    infos = scan_images(Listing(images.folder, ("",), candidates, ()))
    samples = tuple(
        Sample(name, 0, "train", info.height, info.width, info.channels, info.digest, stamp=info.stamp)
        for name, info in zip(names, infos, strict=True)
        if isinstance(info, ImageInfo)
    )
    return LabeledImages(str(images.folder), images.folder, ("",), samples, (), "") if samples else None
