"""Monitor the largest attention and head logits, which reveal instability before the loss does.

Attention logits that keep growing collapse attention to one token, and training diverges (ViT-22B, arXiv 2302.05442,
section 2.1; for small models at high learning rates, arXiv 2309.14322, section 3.1).
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from megavit.config.preprocessing import Preprocessing
from megavit.data.image_dataset import Images
from megavit.distributed.context import ParallelContext
from megavit.model.attention import Attention
from megavit.model.layers import first_tokens
from megavit.model.packing import Packing
from megavit.model.pos_embed import Rotation
from megavit.model.vit import MegaVit
from megavit.model.zeta import ZetaAttention
from megavit.predict.forward import compute_logits
from megavit.training.data import TrainLoader
from megavit.training.task import Task

NUM_IMAGES = 16


class MaxLogits(NamedTuple):
    """The largest absolute logits of a model: |q · k| / √K in attention, and outputs of the head."""

    attention: float
    head: float


class LogitMonitor:
    """A callable that computes the largest logits of a model on a few fixed validation images, over all processes."""

    def __init__(self, loader: TrainLoader, task: Task, parallel: ParallelContext) -> None:
        self.task, self.parallel = task, parallel
        count = min(NUM_IMAGES, len(loader))
        indices = [number * len(loader) // count for number in range(count)]
        # All processes must take part in a forward pass, even those without an image.
        own = indices[parallel.dp_rank :: parallel.dp_world_size] or indices[:1]
        ((self.images, _),) = loader.batches([own])

    def __call__(self, model: MegaVit) -> MaxLogits:
        own = compute_max_logits(model, self.images, self.task.preprocessing, self.task.dtype)
        return MaxLogits(*map(_max, zip(*self.parallel.dist.all_gather(own), strict=True)))


def compute_max_logits(
    model: MegaVit, images: Images, preprocessing: Preprocessing, dtype: torch.dtype = torch.float32
) -> MaxLogits:
    """Return the largest logits of `model`, or of its local shard, on uint8 images in evaluation mode."""
    largest: list[Tensor] = []

    def record(attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        assert isinstance(attention, Attention | ZetaAttention)
        largest.append(compute_max_attention_logit(attention, *args, **kwargs))

    layers = [module for module in model.modules() if isinstance(module, Attention | ZetaAttention)]
    is_compiled = any(layer._compiled_call_impl is not None for layer in model.transformer.layers)
    hooks = [layer.register_forward_pre_hook(record, with_kwargs=True) for layer in layers]
    try:
        # Compiled layers ignore hooks.
        with torch.compiler.set_stance("force_eager") if is_compiled else nullcontext():
            (logits,) = compute_logits(model, [images], preprocessing, dtype)
    finally:
        for hook in hooks:
            hook.remove()
    return MaxLogits(_max(torch.stack(largest).tolist()), logits.abs().max().item())


def compute_max_attention_logit(
    attention: Attention | ZetaAttention,
    x: Tensor,
    rotation: Rotation | None = None,
    packing: Packing | None = None,
    num_outputs: int | None = None,
) -> Tensor:
    """Return the largest |q · k| / √K over the heads and the token pairs within each image of `x` (B, T, D)."""
    query, key, _ = attention.project(x, rotation)
    query = first_tokens(query, num_outputs)
    if packing is None:
        images = [*zip(query, key, strict=True)]
    else:
        groups = zip(*(packing.split(part.transpose(1, 2)) for part in (query, key)), strict=True)
        images = [(q.transpose(0, 1), k.transpose(0, 1)) for pair in groups for q, k in zip(*pair, strict=True)]
    # One image at a time, because the attention logits of a batch would take too much memory.
    scale = query.shape[-1] ** -0.5
    return torch.stack([(q.float() * scale @ k.float().mT).abs().max() for q, k in images]).max()


def _max(values: Sequence[float]) -> float:
    return math.nan if any(map(math.isnan, values)) else max(values, default=math.nan)
