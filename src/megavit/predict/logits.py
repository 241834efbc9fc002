"""A model's logits for many prepared pictures."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from megavit.config.preprocessing import Preprocessing
from megavit.data.augment import normalise
from megavit.data.pictures import Images, to_device


@torch.no_grad()
def logits_of(
    model: nn.Module, batches: Iterable[Images], preprocessing: Preprocessing, dtype: torch.dtype = torch.float32
) -> Iterator[Tensor]:
    """The logits of each batch, float32 on the CPU, in evaluation mode.

    Args:
        model: on any device; its mode is as before when the iterator ends.
        batches: uint8, of pictures as `megavit.data.pictures.prepare` makes them.
        dtype: of the matrix products; bfloat16 runs under autocast.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                logits = model(normalise(to_device(batch, device), preprocessing))
            yield logits.float().cpu()  # out here: inside, whoever asks for the next would compute in bfloat16
    finally:
        model.train(was_training)
