"""Embed images with a backbone that is on this machine, to judge their labels without training."""

from dataclasses import dataclass, replace

import torch

from megavit.config.backbones import Backbone
from megavit.data.dataset import LabeledImages
from megavit.data.image_dataset import COLOR_CHANNELS, can_convert_channels
from megavit.engine.engine import Engine, fast_precision
from megavit.errors import BundleError, ConfigError
from megavit.model.vit import MegaVit
from megavit.predict.embedding_files import SharedEmbeddings
from megavit.training.loop.build import adapt_preprocessing
from megavit.training.progress import Reporter
from megavit.training.setup.resolution import DEFAULT_SIDE
from megavit.training.setup.sizes import choose_recipe
from megavit.weights.backbones.fetch import load_backbone
from megavit.weights.backbones.local import find_backbones
from megavit.weights.pretrained.initialize import initialize_from
from megavit.weights.pretrained.pretrained import PretrainedModel, fingerprint


@dataclass(frozen=True)
class BackboneEngine:
    """A backbone of the table that runs on this machine, and the embeddings that commands have of it."""

    backbone: Backbone
    engine: Engine
    shared: SharedEmbeddings


def find_backbone_engine(dataset: LabeledImages, device: torch.device, reporter: Reporter) -> BackboneEngine | None:
    """Return the first backbone on this machine, ready for the images; None without one, or if they are no photographs.

    It sees them as training does in a short run, so that both share embeddings. One that cannot be read is reported.
    """
    fits = all(can_convert_channels(sample.channels, COLOR_CHANNELS[-1]) for sample in dataset.samples)
    if choose_recipe(dataset) != "photos" or not fits:
        return None
    for local in find_backbones():
        try:
            pretrained = load_backbone(local.backbone, local.path)
            engine = make_backbone_engine(pretrained, device)
        except (BundleError, ConfigError) as error:
            reporter.say(f"{local.backbone.name} in {local.path} cannot be used: {error}")
        else:
            key = fingerprint(pretrained)
            shared = SharedEmbeddings(key, engine.model.config, engine.preprocessing, reporter.say, engine.precision)
            return BackboneEngine(local.backbone, engine, shared)
    return None


def make_backbone_engine(pretrained: PretrainedModel, device: torch.device) -> Engine:
    """Return an engine of pretrained weights that sees images of about `DEFAULT_SIDE` pixels.

    Raises:
        BundleError, ConfigError: if the weights do not fit that size.
    """
    size = tuple(max(1, round(DEFAULT_SIDE / side)) * side for side in pretrained.config.patch_hw)
    config = replace(pretrained.config, num_classes=0, image_size=size)
    model = MegaVit.from_config(config)
    initialize_from(model, pretrained)
    return Engine(model.to(device).eval(), adapt_preprocessing(config, pretrained), fast_precision(device))
