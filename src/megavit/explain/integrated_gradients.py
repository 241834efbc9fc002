"""Integrated gradients, of patches (arXiv 1703.01365)."""

import torch
from torch import Tensor

from megavit.explain.attention_hooks import copy_of, plain
from megavit.model.vit import MegaVit

# On the way from nothing to the image; with 4 or 16 the gains in `benchmarks/explanations.py` are the same to 0.01.
STEPS = 8


def integrated_gradients(model: MegaVit, images: Tensor, target: Tensor | None = None, steps: int = STEPS) -> Tensor:
    """What each patch adds to the logit at `target` (B,), or to the largest: (B, N), float32, of either sign.

    The image without content is all 0, the mean by which pixels are normalized. With many steps an image's values
    sum to how much larger its logit is than that image's.
    """
    copied, images = copy_of(model), plain(images)
    with torch.no_grad():
        target = copied(images).argmax(dim=1) if target is None else target
    total = torch.zeros_like(images)
    with torch.enable_grad():
        for step in range(steps):
            # At the middle of each step, where the sum comes closest to the integral.
            inputs = (images * ((step + 0.5) / steps)).requires_grad_()
            (gradient,) = torch.autograd.grad(chosen_logits(copied(inputs), target).sum(), [inputs])
            total += gradient
    by_pixel = (total / steps * images).float().sum(dim=1)
    height, width = model.config.patch_hw
    return by_pixel.unfold(1, height, height).unfold(2, width, width).sum(dim=(3, 4)).flatten(1)


def chosen_logits(logits: Tensor, target: Tensor | None) -> Tensor:
    """(B, outputs) at `target` (B,), or the largest: (B,)."""
    return logits.amax(dim=1) if target is None else logits.gather(1, target[:, None])[:, 0]
