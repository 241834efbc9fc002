"""Compute relevance maps: how much each patch contributes to an output, see `megavit.explain.methods`."""

from typing import get_args

import torch
from torch import Tensor

from megavit.config.checks import check_choice
from megavit.config.vit import Pool
from megavit.errors import ConfigError
from megavit.explain.attention_hooks import AttentionRecord, copy_sharing_weights, detach, record_attention
from megavit.explain.methods import DEFAULT_METHOD, Method
from megavit.model.vit import MegaVit

# Attention weights per pass, 128 MiB in float32; their number grows with the fourth power of the image's sides.
_MAX_ATTENTION_ELEMENTS = 2**25
# Steps from baseline to image; 4 or 16 give the same gains in `benchmarks/trust/explanations.py` to within 0.01.
INTEGRATION_STEPS = 8


@torch.inference_mode(False)  # the caller may use inference mode, which has no gradients
def compute_relevance(
    model: MegaVit, images: Tensor, target: Tensor | None = None, method: Method = DEFAULT_METHOD
) -> Tensor:
    """Return each patch's share of the positive contributions to an output, without changing the model.

    Args:
        images: normalized images (B, C, height, width) on the model's device, of any size that the patches tile.
        target: (B,) index of the output to explain, ignored by "rollout"; None for each image's largest logit.

    Returns:
        (B, rows, columns) float32, at least 0, summing to 1 for each image, or all 0 if nothing contributes.

    Raises:
        ConfigError: (a ValueError) if the method is unknown, or a target is not an output of the model.
        ValueError: if the images do not fit the model.
    """
    check_choice("method", method, get_args(Method))
    config = model.config
    rows, columns = model.patch_embedding.grid(images)
    prefix = config.num_prefix_tokens
    if target is not None:
        target = _checked_target(target, len(images), config.num_classes).to(images.device)
    if method != "rollout" and not config.num_classes:
        raise ConfigError('this model has no classifier, so there is no output to explain: use the method "rollout"')
    elements = config.depth * config.heads * (prefix + rows * columns) ** 2
    batch_size = max(1, _MAX_ATTENTION_ELEMENTS // elements)
    parts = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        outputs = None if target is None else target[start : start + batch_size]
        match method:
            case "rollout":
                parts.append(rollout(record_attention(model, batch), config.pool)[:, prefix:])
            case "relevance":
                record = record_attention(model, batch, differentiable=True)
                parts.append(gradient_relevance(record, config.pool, outputs)[:, prefix:])
            case "integrated_gradients":
                parts.append(integrated_gradients(model, batch, outputs).clamp(min=0))
    patches = torch.cat(parts) if parts else images.new_zeros(0, rows * columns)
    total = patches.sum(dim=1, keepdim=True)
    return torch.where(total > 0, patches / total, 0.0).unflatten(1, (rows, columns))


def rollout(record: AttentionRecord, pool: Pool) -> Tensor:
    """Return each input token's share of the pooled features, (B, T) float32, rows summing to 1."""
    relevance = _pooling_weights(record, pool, record.pool)
    for weights in reversed(record.layers):
        mean = weights.float().mean(dim=1)
        relevance = (relevance + (relevance[:, None] @ mean)[:, 0]) / 2
    return relevance


def gradient_relevance(record: AttentionRecord, pool: Pool, target: Tensor | None = None) -> Tensor:
    """Return each token's relevance, (B, T) float32, for a logit of a differentiable record, whose graph is freed."""
    by_pool = [] if record.pool is None else [record.pool]
    weights = [*record.layers, *by_pool]
    gradients = torch.autograd.grad(select_logits(record.logits, target).sum(), weights)
    with torch.no_grad():
        positive = [
            (weight.float() * gradient.float()).clamp(min=0)
            for weight, gradient in zip(weights, gradients, strict=True)
        ]
        start = _pooling_weights(record, pool, positive.pop() if by_pool else None)
        if pool == "cls_mean":  # the gradients hold the mean's 1 / N already, which the class token does not have
            start = (start > 0).float()
        relevance = torch.zeros_like(start)
        # Propagating one row back from the last layer avoids products of matrices.
        for layer in reversed(positive):
            relevance += ((start + relevance)[:, None] @ layer.mean(dim=1))[:, 0]
        # A mean starts at every patch equally, which does not distinguish them.
        return relevance if pool in ("mean", "cls_mean") else start + relevance


def integrated_gradients(
    model: MegaVit, images: Tensor, target: Tensor | None = None, steps: int = INTEGRATION_STEPS
) -> Tensor:
    """Return the signed contribution of each patch to the logit at `target` (B,), or the largest: (B, N) float32.

    The baseline is all 0, the mean of normalized pixels. With many steps, an image's contributions sum to the
    difference between its logit and the baseline's.
    """
    copied, images = copy_sharing_weights(model), detach(images)
    with torch.no_grad():
        target = copied(images).argmax(dim=1) if target is None else target
    total = torch.zeros_like(images)
    with torch.enable_grad():
        for step in range(steps):
            inputs = (images * ((step + 0.5) / steps)).requires_grad_()  # midpoint rule
            (gradient,) = torch.autograd.grad(select_logits(copied(inputs), target).sum(), [inputs])
            total += gradient
    by_pixel = (total / steps * images).float().sum(dim=1)
    height, width = model.config.patch_hw
    return by_pixel.unfold(1, height, height).unfold(2, width, width).sum(dim=(3, 4)).flatten(1)


def select_logits(logits: Tensor, target: Tensor | None) -> Tensor:
    """Return each image's logit at `target` (B,), or the largest, as (B,), from logits (B, outputs)."""
    return logits.amax(dim=1) if target is None else logits.gather(1, target[:, None])[:, 0]


def _pooling_weights(record: AttentionRecord, pool: Pool, weights: Tensor | None) -> Tensor:
    """Return each token's weight in pooling, (B, T); `weights` (B, H, N or T) are those of attention pooling."""
    batch, _, tokens, _ = record.layers[0].shape
    pooled = torch.zeros(batch, tokens, device=record.logits.device)
    match pool:
        case "cls":
            pooled[:, 0] = 1
        case "mean":
            pooled[:, record.prefix :] = 1 / (tokens - record.prefix)
        case "cls_mean":
            pooled[:, 0] = 1 / 2
            pooled[:, record.prefix :] = 1 / 2 / (tokens - record.prefix)
        case "map":
            assert weights is not None
            pooled[:, tokens - weights.shape[-1] :] = weights.float().mean(dim=1)
    return pooled


def _checked_target(target: Tensor, images: int, outputs: int) -> Tensor:
    if target.shape != (images,) or target.is_floating_point() or target.dtype == torch.bool:
        raise ConfigError(
            f"target must be an integer for each of {images} images, got shape {tuple(target.shape)} of {target.dtype}"
        )
    if images and not 0 <= int(target.min()) <= int(target.max()) < outputs:
        raise ConfigError(
            f"target must be indices of the model's {outputs} outputs, from 0; got {int(target.min())} to "
            f"{int(target.max())}"
        )
    return target.long()
