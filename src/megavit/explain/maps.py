"""Maps of how much each patch of an image has to do with an answer, by the methods of `megavit.explain.methods`."""

from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.config.checks import check_choice
from megavit.errors import ConfigError
from megavit.explain.methods import METHOD, Method
from megavit.explain.record import Recording, record
from megavit.model.vit import MegaVit

# Attention weights kept at once: 256 MB in float32. They grow with the fourth power of an image's sides.
_MOST_WEIGHTS = 2**26


@torch.inference_mode(False)  # whoever asks may be in it, and gradients are not to be had there
def explain(model: MegaVit, images: Tensor, target: Tensor | None = None, method: Method = METHOD) -> Tensor:
    """Each patch's share of what speaks for an answer.

    The model is left as it is, and may be used by other threads meanwhile.

    Args:
        images: (B, C, height, width), normalised, on the model's device; of any size that its patches tile.
        target: (B,), for each image the place of the logit to explain, a class's index; None: the largest one's.
            "rollout" knows of none.

    Returns:
        (B, rows, columns) float32, at least 0; each image's sum to 1, or are all 0 where nothing speaks for it.

    Raises:
        ConfigError: (a ValueError) for an unknown method, or a target that is not one of the model's outputs.
        ValueError: for images that do not fit the model.
    """
    check_choice("method", method, get_args(Method))
    config = model.config
    rows, columns = model.patch_embedding.grid(images)
    if target is not None:
        target = _checked(target, len(images), config.num_classes).to(images.device)
    if method == "relevance" and not config.num_classes:
        raise ConfigError('this model has no classifier, so there is no answer to explain; the method "rollout" fits')
    per_image = config.depth * config.heads * (config.num_prefix_tokens + rows * columns) ** 2
    size = max(1, _MOST_WEIGHTS // per_image)
    found = []
    for start in range(0, len(images), size):
        part = images[start : start + size]
        if method == "rollout":
            tokens = rollout(record(model, part))
        else:
            chosen = None if target is None else target[start : start + size]
            tokens = relevance(record(model, part, differentiable=True), chosen)
        found.append(tokens[:, config.num_prefix_tokens :])
    patches = torch.cat(found) if found else images.new_zeros(0, rows * columns)
    total = patches.sum(dim=1, keepdim=True)
    return torch.where(total > 0, patches / total, 0.0).unflatten(1, (rows, columns))


def rollout(recording: Recording) -> Tensor:
    """Of what is pooled, how much comes from each token at the model's entry: (B, T), float32, rows summing to 1."""
    pool = None if recording.pool is None else recording.pool.float().mean(dim=1)
    found = _pooled_from(recording, pool)
    for weights in reversed(recording.layers):
        mixed = weights.float().mean(dim=1)
        found = (found + (found[:, None] @ mixed)[:, 0]) / 2
    return found


def relevance(recording: Recording, target: Tensor | None = None) -> Tensor:
    """What each token at the model's entry has to do with the logit at `target`, or with the largest: (B, T), float32.

    The recording must be differentiable, and is used up.
    """
    logits = recording.logits
    target = logits.argmax(dim=1) if target is None else target
    pool = [] if recording.pool is None else [recording.pool]
    weights = [*recording.layers, *pool]
    gradients = torch.autograd.grad(logits.gather(1, target[:, None]).sum(), weights)
    with torch.no_grad():
        positive = [
            (weight.float() * gradient.float()).clamp(min=0).mean(dim=1)
            for weight, gradient in zip(weights, gradients, strict=True)
        ]
        found = _pooled_from(recording, positive.pop() if pool else None)
        # One row of the product is wanted: carried back from the last layer, it costs no product of matrices.
        for layer in reversed(positive):
            found = found + (found[:, None] @ layer)[:, 0]
    return found


def _pooled_from(recording: Recording, pool: Tensor | None) -> Tensor:
    """What pooling takes from each token after the last layer, (B, T): from the patches (B, N), or the class token."""
    batch, _, tokens, _ = recording.layers[0].shape
    if pool is not None:
        return F.pad(pool, (tokens - pool.shape[1], 0))
    return F.one_hot(torch.zeros(batch, dtype=torch.int64, device=recording.logits.device), tokens).float()


def _checked(target: Tensor, images: int, outputs: int) -> Tensor:
    if target.shape != (images,) or target.is_floating_point() or target.dtype == torch.bool:
        raise ConfigError(
            f"target must be a whole number for each of {images} images, got shape {tuple(target.shape)} of "
            f"{target.dtype}"
        )
    if images and not 0 <= int(target.min()) <= int(target.max()) < outputs:
        raise ConfigError(
            f"target must be places among the model's {outputs} outputs, from 0; got {int(target.min())} to "
            f"{int(target.max())}"
        )
    return target.long()
