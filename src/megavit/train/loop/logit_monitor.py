"""The largest logits of a model, where trouble shows before it does in the loss: within attention, and at the head.

Attention logits that keep growing make each token attend to one other, and training diverges (ViT-22B, arXiv
2302.05442, section 2.1; seen in small models at high learning rates in arXiv 2309.14322, section 3.1).
"""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from megavit.config.preprocessing import Preprocessing
from megavit.data.image_dataset import Images
from megavit.distributed.context import ParallelContext
from megavit.model.attention import Attention
from megavit.model.packing import Packing
from megavit.model.pos_embed import Rotation
from megavit.model.vit import MegaVit
from megavit.model.zeta import ZetaAttention
from megavit.predict.forward import logits_of
from megavit.train.data import TrainLoader

# Of the validation images, spread over them: enough to see a layer's scale, at the cost of a moment.
IMAGES = 16


class LogitMonitor(NamedTuple):
    """The largest logits, by size, of some images.

    Attributes:
        attention: |q · k| / √K over all layers, heads and pairs of tokens.
        head: of the model's outputs.
    """

    attention: float
    head: float


Monitor = Callable[[MegaVit], LogitMonitor]


def monitor_of(
    feed: TrainLoader, preprocessing: Preprocessing, dtype: torch.dtype, parallel: ParallelContext
) -> Monitor:
    """Maps a model to its largest logits on a few images of `feed`, the same ones each time.

    Of several processes each looks at its part of the images and of the model, and all are told the largest.
    """
    count = min(IMAGES, len(feed))
    places = [number * len(feed) // count for number in range(count)]
    mine = places[parallel.dp_rank :: parallel.dp_world_size] or places[:1]  # a forward pass takes all processes
    ((images, _),) = feed.batches([mine])

    def monitor(model: MegaVit) -> LogitMonitor:
        found = parallel.dist.all_gather(largest_logits(model, images, preprocessing, dtype))
        return LogitMonitor(*(_largest(values) for values in zip(*found, strict=True)))

    return monitor


def largest_logits(
    model: MegaVit, images: Images, preprocessing: Preprocessing, dtype: torch.dtype = torch.float32
) -> LogitMonitor:
    """The largest logits of `model`, or of this process's part of it, on uint8 images, as in evaluation mode.

    Args:
        dtype: of the matrix products, as of `megavit.predict.forward.logits_of`.
    """
    found: list[Tensor] = []

    def look(attention: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        assert isinstance(attention, Attention | ZetaAttention)
        found.append(largest_in(attention, *given, **named))

    layers = [module for module in model.modules() if isinstance(module, Attention | ZetaAttention)]
    compiled = any(layer._compiled_call_impl is not None for layer in model.transformer.layers)
    hooks = [layer.register_forward_pre_hook(look, with_kwargs=True) for layer in layers]
    try:
        # Compiled code does not look for hooks.
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            (logits,) = logits_of(model, [images], preprocessing, dtype)
    finally:
        for hook in hooks:
            hook.remove()
    return LogitMonitor(_largest([layer.item() for layer in found]), logits.abs().max().item())


def largest_in(
    attention: Attention | ZetaAttention,
    x: Tensor,
    rotation: Rotation | None = None,
    packing: Packing | None = None,
) -> Tensor:
    """|q · k| / √K at its largest over the heads, and the pairs of tokens of each image, of `x` (B, T, D)."""
    query, key, _ = attention.project(x, rotation)
    if packing is None:
        images = [*zip(query, key, strict=True)]
    else:
        groups = zip(*(packing.split(part.transpose(1, 2)) for part in (query, key)), strict=True)
        images = [(q.transpose(0, 1), k.transpose(0, 1)) for one in groups for q, k in zip(*one, strict=True)]
    # Image by image: the products of all of them, in all heads, would take a batch's memory many times.
    scale = query.shape[-1] ** -0.5
    return torch.stack([(q.float() * scale @ k.float().mT).abs().max() for q, k in images]).max()


def _largest(values: Sequence[float]) -> float:
    """The largest, or NaN where one of them is none."""
    return math.nan if any(map(math.isnan, values)) else max(values, default=math.nan)
