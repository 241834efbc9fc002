"""Compute the logits and embeddings of many prepared images."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from megavit.config.preprocessing import Preprocessing
from megavit.data.augment import normalize
from megavit.data.image_dataset import Images, to_device
from megavit.model.vit import MegaVit


@dataclass(frozen=True)
class EmbeddingResult:
    """The name of an image with its float32 embedding (D,), or with the reason why there is none."""

    name: str
    vector: Tensor | None
    error: str | None


def compute_logits(
    model: nn.Module, batches: Iterable[Images], preprocessing: Preprocessing, dtype: torch.dtype = torch.float32
) -> Iterator[Tensor]:
    """Yield the logits of each batch, computed in evaluation mode, as float32 on the CPU.

    Args:
        model: a model on any device; its mode is restored at the end.
        batches: uint8 batches made by `megavit.data.image_dataset.make_batch`.
        dtype: dtype of the matrix products; bfloat16 uses autocast.
    """

    def forward(batch: Images) -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            return model(normalize(to_device(batch, device), preprocessing))

    device = next(model.parameters()).device
    return _run(model, batches, forward)


def compute_embeddings(
    model: MegaVit, batches: Iterable[Images], preprocessing: Preprocessing, dtype: torch.dtype = torch.float32
) -> Iterator[Tensor]:
    """Yield the embeddings (B, D) of each batch, the inputs of the head; arguments are those of `compute_logits`."""

    def forward(batch: Images) -> Tensor:
        images = normalize(to_device(batch, device), preprocessing)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            return model.pooled(images)

    device = next(model.parameters()).device
    return _run(model, batches, forward)


@torch.no_grad()
def _run(model: nn.Module, batches: Iterable[Images], forward: Callable[[Images], Tensor]) -> Iterator[Tensor]:
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            yield forward(batch).float().cpu()
    finally:
        model.train(was_training)
