"""MegaVit: the Vision Transformer (arXiv 2010.11929) with the parts of ViT-22B (arXiv 2302.05442).

    model = MegaVit(image_size=256, patch_size=32, num_classes=1000, dim=512, depth=6, heads=8, mlp_dim=1024)
    logits = model(images)              # (B, 1000)
    features = model.features(images)   # pooled, prefix and patch tokens
    logits = model([wide, tall])        # images of different sizes, packed without padding

Letters of the shapes: see `megavit.model`.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from megavit.config.vit import Design, FinalNorm, Pool, Size, ViTConfig
from megavit.model.block import Transformer
from megavit.model.init import initialize
from megavit.model.layers import make_norm
from megavit.model.packing import pack, stack_by_grid
from megavit.model.patch_embed import PatchDrop, PatchEmbedding, PrefixTokens
from megavit.model.pooling import POOLS
from megavit.model.pos_embed import POSITIONS, Rotation


class Features(NamedTuple):
    """Features of a batch of images.

    The tokens are normalized, unless the design normalizes the pooled vector instead.

    Attributes:
        pooled: (B, D), what the head classifies.
        prefix: (B, R, D), the class token, if any, then the registers.
        patches: (B, N, D), row by row; fewer in training with `patch_drop`.
        grid: (rows, columns) of the image's patches.
    """

    pooled: Tensor
    prefix: Tensor
    patches: Tensor
    grid: tuple[int, int]


class PackedFeatures(NamedTuple):
    """Features of images of different sizes, after the last norm.

    Attributes:
        pooled: (B, D), what the head classifies.
        prefix: (B, R, D), the class tokens, if any, then the registers.
        patches: of each image, (N, D) with its own N, row by row; fewer in training with `patch_drop`.
        grids: of each image, (rows, columns) of its patches.
    """

    pooled: Tensor
    prefix: Tensor
    patches: tuple[Tensor, ...]
    grids: tuple[tuple[int, int], ...]


class MegaVit(nn.Module):
    """A Vision Transformer: images (B, channels, height, width), floating point, -> logits (B, num_classes).

    Images of another size than `image_size` are accepted if their sides divide by `patch_size`: learned positions are
    resampled, others computed. Images of different sizes are passed as a list of (channels, height, width). With
    `num_classes=0` the output is the pooled features (B, dim).

    The arguments are those of `megavit.ViTConfig`, which explains them; `design` says which parts.

    Raises:
        ValueError: for sizes that do not fit together, and for images that do not fit the model.
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
        self.patch_embedding = PatchEmbedding(config)
        self.positions = POSITIONS[design.positions](config)
        self.patch_drop = PatchDrop(design.patch_drop)
        self.prefix_tokens = PrefixTokens(config)
        self.dropout = nn.Dropout(emb_dropout)
        self.pre_norm = make_norm(design, dim) if design.pre_norm else nn.Identity()
        self.transformer = Transformer(config)
        self.norm = make_norm(design, dim)
        self.pool = POOLS[pool](config)
        self.mlp_head = nn.Linear(dim, num_classes) if num_classes else nn.Identity()
        if not self.norm.weight.is_meta:  # nothing to set there, and PyTorch would import its compiler: 1 s
            self.initialize()

    @classmethod
    def from_config(cls, config: ViTConfig) -> Self:
        """Return a model of this config, with fresh weights."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(config)})

    def initialize(self) -> None:
        """Set every parameter to a fresh initial value, as after `to_empty` of a model built on the meta device."""
        initialize(self, depth=self.config.depth, layer_scale=self.config.design.layer_scale or 1.0)

    def forward(self, img: Tensor | list[Tensor] | tuple[Tensor, ...]) -> Tensor:
        features = self.features_packed(img) if isinstance(img, list | tuple) else self.features(img)
        return self.mlp_head(features.pooled)

    def features(self, img: Tensor) -> Features:
        """Return everything up to the head: tokens and their pooled vector."""
        grid = self.patch_embedding.grid(img)
        x, rotation = self.embed(img, grid)
        x = self.final_norm(self.transformer(x, rotation), "tokens")
        prefix, patches = x.tensor_split([self.config.num_prefix_tokens], dim=1)
        return Features(self.final_norm(self.pool(prefix, patches), "pooled"), prefix, patches, grid)

    def features_packed(self, images: Sequence[Tensor]) -> PackedFeatures:
        """Return `features` of images (channels, height, width) of any sizes that the patches tile, in one sequence.

        Each image's features are those that it has alone, up to rounding.

        Raises:
            ValueError: as `features`, naming the image by its index.
        """
        grids = self.patch_embedding.grids(images)
        order, stacks = stack_by_grid(images, grids)
        x, rotation, packing = pack([self.embed(stack, self.patch_embedding.grid(stack)) for stack in stacks])
        x = self.final_norm(self.transformer(x, rotation, packing), "tokens")
        groups = [group.tensor_split([self.config.num_prefix_tokens], dim=1) for group in packing.split(x)]
        inverse = sorted(range(len(order)), key=order.__getitem__)
        pooled = torch.cat([self.pool(prefix, patches) for prefix, patches in groups])[inverse]
        prefix = torch.cat([prefix for prefix, _ in groups])[inverse]
        patches = [image for _, patches in groups for image in patches]
        pooled = self.final_norm(pooled, "pooled")
        return PackedFeatures(pooled, prefix, tuple(patches[i] for i in inverse), tuple(grids))

    def embed(self, img: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Rotation | None]:
        """Return the tokens (B, T, D) of images of one `grid`, with positions, and the rotation for attention."""
        x, rotation = self.positions(self.patch_embedding(img), grid)
        x, rotation = self.patch_drop(x, rotation)
        return self.pre_norm(self.dropout(self.prefix_tokens(x))), rotation

    def final_norm(self, x: Tensor, of: FinalNorm) -> Tensor:
        """Return `x` normalized if the design's final norm is of these: of the "tokens", or of the "pooled" vector."""
        return self.norm(x) if self.config.design.final_norm == of else x
