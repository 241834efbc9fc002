"""Make a classifier of a two-tower model and the names of classes, without any image of them."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from megavit.config.names import index_by_name
from megavit.config.target import Target
from megavit.errors import BundleError, ConfigError
from megavit.weights.pretrained.classifier import BIAS, WEIGHT
from megavit.weights.pretrained.pretrained import PretrainedModel
from megavit.weights.text_tower.load import TextEncoder

PROJECTION = "mlp_head.projection.weight"
PROMPT = "a photo of a {}."
"""Text that a class is compared by (arXiv 2103.00020, section 3.1.4)."""


def classify_by_text(pretrained: PretrainedModel, encoder: TextEncoder, classes: Sequence[str]) -> PretrainedModel:
    """Return an image tower whose head compares images with the texts of classes.

    The logits are the cosines of the embeddings times the model's own scale. Of SigLIP, which asks for each text
    whether it fits, only the comparison is used: the most fitting class has the highest probability.

    Raises:
        BundleError: if the embeddings of images and texts differ in width.
        ConfigError: if there are fewer than two classes, or two have the same name.
    """
    labels = tuple(classes)
    if len(labels) < 2 or len(index_by_name(labels)) != len(labels):
        raise ConfigError(f"at least two classes of different names are needed, got {', '.join(labels) or 'none'}")
    texts = encoder.encode([PROMPT.format(label) for label in labels])
    projection = pretrained.tensors.get(WEIGHT, torch.eye(pretrained.config.pooled_dim))
    if len(projection) != texts.shape[1]:
        raise BundleError(
            f"{pretrained.name} has image embeddings of {len(projection)} numbers and text embeddings of "
            f"{texts.shape[1]}: its towers are not of the same model"
        )
    features = {name: tensor for name, tensor in pretrained.tensors.items() if name not in (WEIGHT, BIAS)}
    head = {PROJECTION: projection.float(), WEIGHT: encoder.scale * texts, BIAS: torch.zeros(len(labels))}
    return replace(
        pretrained,
        config=replace(pretrained.config, num_classes=len(labels)),
        tensors=features | head,
        labels=labels,
        target=Target(),
        cosine_dim=len(projection),
        notes=(*pretrained.notes[:1], f"classes told by the texts such as {PROMPT.format(labels[0])!r}"),
    )
