"""MegaVit: the Vision Transformer (arXiv 2010.11929) with the parts of ViT-22B (arXiv 2302.05442).

    model = MegaVit(image_size=256, patch_size=32, num_classes=1000, dim=512, depth=6, heads=8, mlp_dim=1024)
    logits = model(images)              # (B, 1000)
    features = model.features(images)   # pooled, prefix and patch tokens

Letters of the shapes: see `megavit.model`.
"""

from dataclasses import fields
from typing import NamedTuple, Self

from torch import Tensor, nn

from megavit.config.vit import Design, Pool, Size, ViTConfig
from megavit.model.block import Transformer
from megavit.model.init import initialise
from megavit.model.norm import make_norm
from megavit.model.patches import PatchEmbedding
from megavit.model.pooling import POOLS
from megavit.model.positions import POSITIONS
from megavit.model.tokens import PatchDrop, PrefixTokens


class Features(NamedTuple):
    """What a MegaVit sees in a batch of images.

    The tokens are normalised, unless the design normalises the pooled vector instead.

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


class MegaVit(nn.Module):
    """A Vision Transformer for images (B, channels, height, width) of floats, answering logits (B, num_classes).

    An image of another size than `image_size` is welcome if its sides divide by `patch_size`: learned
    positions are resampled, others computed. With `num_classes=0` the answer is the pooled features (B, dim).

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
        self.initialise()

    @classmethod
    def from_config(cls, config: ViTConfig) -> Self:
        return cls(**{field.name: getattr(config, field.name) for field in fields(config)})

    def initialise(self) -> None:
        """Set every parameter to a fresh initial value, as after `to_empty` of a model built on the meta device."""
        initialise(self, depth=self.config.depth, layer_scale=self.config.design.layer_scale or 1.0)

    def forward(self, img: Tensor) -> Tensor:
        return self.mlp_head(self.features(img).pooled)

    def features(self, img: Tensor) -> Features:
        """Everything up to the head: tokens and their pooled vector."""
        grid = self.patch_embedding.grid(img)
        x = self.patch_embedding(img)
        x, rotation = self.positions(x, grid)
        x, rotation = self.patch_drop(x, rotation)
        x = self.dropout(self.prefix_tokens(x))
        x = self.transformer(self.pre_norm(x), rotation)
        norm_tokens = self.config.design.final_norm == "tokens"
        x = self.norm(x) if norm_tokens else x
        prefix, patches = x.tensor_split([self.config.num_prefix_tokens], dim=1)
        pooled = self.pool(prefix, patches)
        return Features(pooled if norm_tokens else self.norm(pooled), prefix, patches, grid)
