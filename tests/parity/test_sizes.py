"""A model at sizes it was not made for answers as timm does, both as timm resamples while it runs and as it loads."""

from functools import partial
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

from benchmarks.parity.stages import FAMILIES, load_our_model, perturb_weights

close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)

# In patches of 4 pixels: 224 at 16 is 14 × 14, 384 is 24 × 24, 160 × 320 is 10 × 20.
SMALL: dict[str, Any] = {"patch_size": 4, "num_classes": 5, "embed_dim": 64, "depth": 2, "num_heads": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "class token": {},
    "no position for it": {"no_embed_class": True, "reg_tokens": 2},
    "attention pool": {"class_token": False, "global_pool": "map"},
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("grid", [(24, 24), (10, 20), (7, 15), (1, 9), (13, 14)])
@torch.no_grad()
def test_a_model_of_14_patches_a_side_at_another_grid(name: str, grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    arguments = SMALL | VARIANTS[name]
    theirs = VisionTransformer(img_size=56, dynamic_img_size=True, **arguments).eval()
    perturb_weights(theirs)
    ours = load_our_model(FAMILIES["timm ViT"], theirs)
    size = (4 * grid[0], 4 * grid[1])
    images = torch.randn(2, 3, *size)
    answer = ours(images)
    close(answer, theirs(images))
    loaded = VisionTransformer(img_size=size, **arguments).eval()
    loaded.load_state_dict(checkpoint_filter_fn(theirs.state_dict(), loaded))
    close(answer, loaded(images))
