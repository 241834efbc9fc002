"""A model's logits for many prepared pictures."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from megavit.config.preprocessing import Preprocessing
from megavit.data.augment import normalize
from megavit.data.image_dataset import Images, to_device
from megavit.model.vit import MegaVit


@torch.no_grad()
def compute_logits(
    model: nn.Module, batches: Iterable[Images], preprocessing: Preprocessing, dtype: torch.dtype = torch.float32
) -> Iterator[Tensor]:
    """The logits of each batch, float32 on the CPU, in evaluation mode.

    Args:
        model: on any device; its mode is as before when the iterator ends.
        batches: uint8, of pictures as `megavit.data.image_dataset.preprocess` makes them.
        dtype: of the matrix products; bfloat16 runs under autocast.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                logits = model(normalize(to_device(batch, device), preprocessing))
            yield logits.float().cpu()  # out here: inside, whoever asks for the next would compute in bfloat16
    finally:
        model.train(was_training)


@dataclass(frozen=True)
class EmbeddingResult:
    """One of a stream: the image's name with its vector (D,), float32, or with the reason why there is none."""

    name: str
    vector: Tensor | None
    error: str | None


@torch.no_grad()
def compute_embeddings(model: MegaVit, batches: Iterable[Images], preprocessing: Preprocessing) -> Iterator[Tensor]:
    """The embeddings (B, D) of each batch, float32 on the CPU, in evaluation mode: what the head would classify.

    Args:
        model: on any device; its mode is as before when the iterator ends.
        batches: uint8, as `megavit.data.image_dataset.make_batch` makes them.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            images = normalize(to_device(batch, device), preprocessing)
            packed = isinstance(images, list)
            features = model.features_packed(images) if packed else model.features(images)
            yield features.pooled.float().cpu()
    finally:
        model.train(was_training)
