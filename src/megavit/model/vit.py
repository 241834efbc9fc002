"""MegaVit: the Vision Transformer (arXiv 2010.11929) with the components of ViT-22B (arXiv 2302.05442).

model = MegaVit(image_size=256, patch_size=32, num_classes=1000, dim=512, depth=6, heads=8, mlp_dim=1024)
logits = model(images)              # (B, 1000)
features = model.features(images)   # pooled, prefix and patch tokens
logits = model([wide, tall])        # images of different sizes, packed without padding
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from megavit.config.vit import Design, FinalNorm, Pool, Size, ViTConfig
from megavit.model.block import Transformer
from megavit.model.embedding.conv_stem import ConvStem
from megavit.model.embedding.patch_embed import PatchDrop, PatchEmbedding, PrefixTokens
from megavit.model.hub import HubModel
from megavit.model.init import initialize
from megavit.model.layers import make_norm
from megavit.model.packing import pack, stack_by_grid
from megavit.model.pooling import POOLS
from megavit.model.pos_embed import POSITIONS, Rotation
from megavit.runtime.device import copies_ahead


class Features(NamedTuple):
    """Features of a batch of images of one size.

    The tokens are normalized unless the design's final norm applies to the pooled vector.

    Attributes:
        pooled: (B, D), or (B, 2D) for pooling by "cls_mean", the input of the head.
        prefix: (B, R, D), the class token, if any, then the registers.
        patches: (B, N, D), row by row; fewer in training with `patch_drop`.
        grid: (rows, columns) of patches in each image.
    """

    pooled: Tensor
    prefix: Tensor
    patches: Tensor
    grid: tuple[int, int]


class PackedFeatures(NamedTuple):
    """Features of images of different sizes.

    Attributes:
        pooled: (B, D), or (B, 2D) for pooling by "cls_mean", the input of the head.
        prefix: (B, R, D), the class tokens, if any, then the registers.
        patches: one (N, D) tensor per image, row by row; N differs, and is smaller in training with `patch_drop`.
        grids: (rows, columns) of patches in each image.
    """

    pooled: Tensor
    prefix: Tensor
    patches: tuple[Tensor, ...]
    grids: tuple[tuple[int, int], ...]


class MegaVit(HubModel):
    """A Vision Transformer that maps images (B, C, height, width), floating point, to logits (B, num_classes).

    Images of another size than `image_size` are accepted if their sides are divisible by `patch_size`; learned
    positions are then resampled. Pass images of different sizes as a list of (C, height, width). With `num_classes=0`
    the output is the pooled features (B, pooled_dim). The arguments are documented in `megavit.ViTConfig`.

    Raises:
        ValueError: if the sizes are inconsistent, or an image does not fit the model.
    """

    def __init__(
        self,
        *,
        image_size: Size,
        patch_size: Size,
        num_classes: int,
        dim: int,
        depth: int,
        heads: int,
        mlp_dim: int,
        pool: Pool = "cls",
        channels: int = 3,
        dim_head: int = 64,
        dropout: float = 0.0,
        emb_dropout: float = 0.0,
        design: Design = Design(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        self.config = config = ViTConfig(
            image_size=image_size,
            patch_size=patch_size,
            num_classes=num_classes,
            dim=dim,
            depth=depth,
            heads=heads,
            mlp_dim=mlp_dim,
            pool=pool,
            channels=channels,
            dim_head=dim_head,
            dropout=dropout,
            emb_dropout=emb_dropout,
            design=design,
        )
        self.patch_embedding = ConvStem(config) if design.stem == "conv" else PatchEmbedding(config)
        self.positions = POSITIONS[design.positions](config)
        self.patch_drop = PatchDrop(design.patch_drop)
        self.prefix_tokens = PrefixTokens(config)
        self.dropout = nn.Dropout(emb_dropout)
        self.pre_norm = make_norm(design, dim) if design.pre_norm else nn.Identity()
        self.transformer = Transformer(config)
        self.norm = make_norm(design, dim)
        self.pool = POOLS[pool](config)
        self.mlp_head = nn.Linear(config.pooled_dim, num_classes) if num_classes else nn.Identity()
        if not self.norm.weight.is_meta:  # on meta, initializing would only import PyTorch's compiler (1 s)
            self.initialize()

    @classmethod
    def from_config(cls, config: ViTConfig) -> Self:
        """Return a model with this config and freshly initialized weights."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(config)})

    def initialize(self) -> None:
        """Reset every parameter to its initial value, e.g. after `to_empty` of a model on the meta device."""
        initialize(self, depth=self.config.depth, layer_scale=self.config.design.layer_scale or 1.0)

    def forward(self, img: Tensor | list[Tensor] | tuple[Tensor, ...]) -> Tensor:
        return self.mlp_head(self.pooled(img))

    def pooled(self, img: Tensor | list[Tensor] | tuple[Tensor, ...]) -> Tensor:
        """Return the pooled vectors (B, pooled_dim) of images, the input of the head.

        They equal those of `features`, up to rounding. Where only the class token is pooled, the last layer computes no
        other token, unless a hook on it or after it may want them.
        """
        if isinstance(img, list | tuple):
            return self.features_packed(img).pooled
        if not self._needs_only_class_token():
            return self.features(img).pooled
        x, rotation = self.embed(img, self.patch_embedding.grid(img))
        x = self.final_norm(self.transformer(x, rotation, num_outputs=1), "tokens")
        return self.final_norm(self.pool(x, x), "pooled")

    def _needs_only_class_token(self) -> bool:
        if self.config.pool != "cls" or self.config.design.norm == "batch":  # batch norms need all tokens in training
            return False
        observed = (self.transformer, self.norm, *self.transformer.layers[-1].modules())
        return not any(module._forward_hooks or module._forward_pre_hooks for module in observed)

    def features(self, img: Tensor) -> Features:
        """Return the tokens and the pooled vector of images (B, C, height, width), before the head."""
        grid = self.patch_embedding.grid(img)
        x, rotation = self.embed(img, grid)
        x = self.final_norm(self.transformer(x, rotation), "tokens")
        prefix, patches = x.tensor_split([self.config.num_prefix_tokens], dim=1)
        return Features(self.final_norm(self.pool(prefix, patches), "pooled"), prefix, patches, grid)

    def features_packed(self, images: Sequence[Tensor]) -> PackedFeatures:
        """Return the features of images (C, height, width) of different sizes, processed as one packed sequence.

        Each image's features equal those from `features`, up to rounding.

        Raises:
            ValueError: if an image does not fit the model; the message has its index.
        """
        grids = self.patch_embedding.grids(images)
        order, stacks = stack_by_grid(images, grids)
        x, rotation, packing = pack([self.embed(stack, self.patch_embedding.grid(stack)) for stack in stacks])
        x = self.final_norm(self.transformer(x, rotation, packing), "tokens")
        groups = [group.tensor_split([self.config.num_prefix_tokens], dim=1) for group in packing.split(x)]
        inverse = sorted(range(len(order)), key=order.__getitem__)
        index = torch.tensor(inverse).to(x.device, non_blocking=copies_ahead(x.device))
        pooled = torch.cat([self.pool(prefix, patches) for prefix, patches in groups])[index]
        prefix = torch.cat([prefix for prefix, _ in groups])[index]
        patches = [image for _, patches in groups for image in patches]
        pooled = self.final_norm(pooled, "pooled")
        return PackedFeatures(pooled, prefix, tuple(patches[i] for i in inverse), tuple(grids))

    def embed(self, img: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Rotation | None]:
        """Return the tokens (B, T, D) of images with this patch `grid`, and attention's rotation, if any."""
        x, rotation = self.positions(self.patch_embedding(img), grid)
        x, rotation = self.patch_drop(x, rotation)
        return self.pre_norm(self.dropout(self.prefix_tokens(x))), rotation

    def final_norm(self, x: Tensor, stage: FinalNorm) -> Tensor:
        """Return `x` normalized if `stage` is where the design's final norm applies, else `x` unchanged."""
        return self.norm(x) if self.config.design.final_norm == stage else x
