"""Maps of how much each patch of an image has to do with an answer, by the methods of `megavit.explain.methods`."""

from typing import get_args

import torch
from torch import Tensor

from megavit.config.checks import check_choice
from megavit.config.vit import Pool
from megavit.errors import ConfigError
from megavit.explain.attention_hooks import AttentionRecord, record_attention
from megavit.explain.integrated_gradients import chosen_logits, integrated_gradients
from megavit.explain.methods import DEFAULT_METHOD, Method
from megavit.model.vit import MegaVit

# Attention weights at once, 128 MB in float32, of which a pass holds a few times as much: they grow with the fourth
# power of an image's sides.
_MOST_WEIGHTS = 2**25


@torch.inference_mode(False)  # whoever asks may be in it, and gradients are not to be had there
def relevance_map(
    model: MegaVit, images: Tensor, target: Tensor | None = None, method: Method = DEFAULT_METHOD
) -> Tensor:
    """Each patch's share of what speaks for an answer.

    The model is left as it is, and may be used by other threads meanwhile.

    Args:
        images: (B, C, height, width), normalized, on the model's device; of any size that its patches tile.
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
    prefix = config.num_prefix_tokens
    if target is not None:
        target = _checked(target, len(images), config.num_classes).to(images.device)
    if method != "rollout" and not config.num_classes:
        raise ConfigError('this model has no classifier, so there is no answer to explain; the method "rollout" fits')
    per_image = config.depth * config.heads * (prefix + rows * columns) ** 2
    size = max(1, _MOST_WEIGHTS // per_image)
    found = []
    for start in range(0, len(images), size):
        part = images[start : start + size]
        chosen = None if target is None else target[start : start + size]
        match method:
            case "rollout":
                found.append(rollout(record_attention(model, part), config.pool)[:, prefix:])
            case "relevance":
                found.append(
                    relevance(record_attention(model, part, differentiable=True), config.pool, chosen)[:, prefix:]
                )
            case "integrated_gradients":
                found.append(integrated_gradients(model, part, chosen).clamp(min=0))
    patches = torch.cat(found) if found else images.new_zeros(0, rows * columns)
    total = patches.sum(dim=1, keepdim=True)
    return torch.where(total > 0, patches / total, 0.0).unflatten(1, (rows, columns))


def rollout(recording: AttentionRecord, pool: Pool) -> Tensor:
    """Of what is pooled, how much comes from each token at the model's entry: (B, T), float32, rows summing to 1."""
    found = _pooled_from(recording, pool, recording.pool)
    for weights in reversed(recording.layers):
        mixed = weights.float().mean(dim=1)
        found = (found + (found[:, None] @ mixed)[:, 0]) / 2
    return found


def relevance(recording: AttentionRecord, pool: Pool, target: Tensor | None = None) -> Tensor:
    """What each token at the model's entry has to do with the logit at `target`, or with the largest: (B, T), float32.

    The recording must be differentiable, and is used up.
    """
    by_pool = [] if recording.pool is None else [recording.pool]
    weights = [*recording.layers, *by_pool]
    gradients = torch.autograd.grad(chosen_logits(recording.logits, target).sum(), weights)
    with torch.no_grad():
        positive = [
            (weight.float() * gradient.float()).clamp(min=0)
            for weight, gradient in zip(weights, gradients, strict=True)
        ]
        start = _pooled_from(recording, pool, positive.pop() if by_pool else None)
        carried = torch.zeros_like(start)
        # One row of the product is wanted: brought back from the last layer, it costs no product of matrices.
        for layer in reversed(positive):
            carried += ((start + carried)[:, None] @ layer.mean(dim=1))[:, 0]
        # The mean starts at every patch alike, which says nothing of any.
        return carried if pool == "mean" else start + carried


def _pooled_from(recording: AttentionRecord, pool: Pool, weights: Tensor | None) -> Tensor:
    """What pooling takes from each token after the last layer, (B, T); `weights` (B, H, N or T) are the pool's."""
    batch, _, tokens, _ = recording.layers[0].shape
    found = torch.zeros(batch, tokens, device=recording.logits.device)
    match pool:
        case "cls":
            found[:, 0] = 1
        case "mean":
            found[:, recording.prefix :] = 1 / (tokens - recording.prefix)
        case "map":
            assert weights is not None
            found[:, tokens - weights.shape[-1] :] = weights.float().mean(dim=1)
    return found


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
