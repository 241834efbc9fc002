"""Models of which it is known where they look."""

from typing import Any

import torch
from torch import Tensor, nn

from megavit.config.vit import Design, Pool
from megavit.model.pooling import AttentionPool
from megavit.model.vit import MegaVit

ROWS, COLUMNS, PATCH = 3, 4, 2
LOOKED_FOR = 3.0
BRIGHT = 1
"""The class whose logit grows with a bright patch; the other's is 0."""


@torch.no_grad()
def make_brightness_model(pool: Pool, design: Design) -> MegaVit:
    """Every query looks for a bright patch, and takes its brightness; the head reads that, for `BRIGHT`.

    The second layer adds nothing.
    """
    model = MegaVit(
        image_size=(ROWS * PATCH, COLUMNS * PATCH),
        patch_size=PATCH,
        num_classes=2,
        dim=4,
        depth=2,
        heads=1,
        dim_head=4,
        mlp_dim=4,
        channels=1,
        pool=pool,
        design=design,
    )
    for parameter in model.parameters():
        parameter.zero_()
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
    # What all tokens have alike keeps the norms from making every brightness the same.
    if model.prefix_tokens.class_token is not None:
        model.prefix_tokens.class_token[1] = 3.0
    model.patch_embedding.projection.bias[1] = 3.0
    model.patch_embedding.projection.weight[0] = 1.0
    brightness = torch.tensor([1.0, 0.0, -1.0, 0.0])  # 0 for every dark token, also after a norm
    head: Any = model.mlp_head
    first: Any = model.transformer.layers[0]
    first.attention.to_qkv.bias[0] = LOOKED_FOR
    first.attention.to_qkv.weight[[4, 8]] = brightness  # key and value
    first.attention.out.weight.copy_(torch.eye(4))
    if isinstance(model.pool, AttentionPool):
        model.pool.to_query.bias[0] = LOOKED_FOR
        model.pool.to_key_value.weight[[0, 4]] = brightness
        model.pool.out.weight.copy_(torch.eye(4))
        head.weight[BRIGHT, 0] = 1.0
    else:
        head.weight[BRIGHT] = brightness.repeat(model.config.pooled_dim // model.config.dim)
    return model.eval()


def make_bright_images(*places: int) -> Tensor:
    """For each place an image (1, height, width) whose patch there is bright, and nothing else: (B, 1, ...)."""
    images = torch.zeros(len(places), 1, ROWS * PATCH, COLUMNS * PATCH)
    for image, place in zip(images, places, strict=True):
        top, left = (PATCH * side for side in divmod(place, COLUMNS))
        image[:, top : top + PATCH, left : left + PATCH] = 1.0
    return images
