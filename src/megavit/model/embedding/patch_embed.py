"""Patch embedding, prefix tokens and patch dropout: the layers that turn images into tokens."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from megavit.config.vit import ViTConfig, check_divisible
from megavit.model.kernels.linear import Linear
from megavit.model.layers import make_norm
from megavit.model.pos_embed import Rotation


class Embedding(nn.Module):
    """The base of modules that map images to one token per patch: (B, C, height, width) -> (B, N, D), row by row."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.channels = config.channels
        self.patch_hw = config.patch_hw

    def grid(self, img: Tensor) -> tuple[int, int]:
        """Return the (rows, columns) of patches in images (B, C, height, width).

        Raises:
            ValueError: unless `img` is such a floating-point tensor whose sides are divisible by the patch size.
        """
        if img.ndim != 4:
            raise ValueError(f"images must be (batch, channels, height, width), got shape {tuple(img.shape)}")
        if img.shape[1] != self.channels:
            raise ValueError(f"images must have {self.channels} channels, got {img.shape[1]}")
        if not img.is_floating_point():
            raise ValueError(f"images must be floating point and normalized, got {img.dtype}")
        height, width = img.shape[2:]
        check_divisible((height, width), self.patch_hw)
        if height == 0 or width == 0:
            raise ValueError(f"images must not be empty, got {height} × {width} pixels")
        return height // self.patch_hw[0], width // self.patch_hw[1]

    def grids(self, images: Sequence[Tensor]) -> list[tuple[int, int]]:
        """Return the (rows, columns) of patches in each image (C, height, width).

        Raises:
            ValueError: if there are no images, if dtypes or devices differ, or if an image does not fit the model.
        """
        if not images:
            raise ValueError("there must be at least one image")
        grids = []
        for index, img in enumerate(images):
            try:
                if img.ndim != 3:
                    raise ValueError(f"images must be (channels, height, width), got shape {tuple(img.shape)}")
                grids.append(self.grid(img[None]))
            except ValueError as error:
                raise ValueError(f"image {index} of {len(images)}: {error}") from error
            if (img.dtype, img.device) != (images[0].dtype, images[0].device):
                raise ValueError(
                    f"image {index} of {len(images)} is {img.dtype} on {img.device}, "
                    f"but the first is {images[0].dtype} on {images[0].device}: all must have the same dtype and device"
                )
        return grids


class PatchEmbedding(Embedding):
    """A projection of the pixels of each patch.

    A patch is flattened as (channel, row, column), so that a convolution's (D, C, height, width) kernel fits after a
    reshape.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        design, pixels = config.design, config.channels * math.prod(config.patch_hw)
        self.pixel_norm = make_norm(design, pixels) if design.patch_norm else nn.Identity()
        self.projection = Linear(pixels, config.dim)
        self.norm = make_norm(design, config.dim) if design.patch_norm else nn.Identity()

    def forward(self, img: Tensor) -> Tensor:
        self.grid(img)
        patches = img.to(self.projection.weight.dtype)
        for axis, side in zip((2, 3), self.patch_hw, strict=True):
            patches = patches.unfold(axis, side, side)
        pixels = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        tokens = self.norm(self.projection(self.pixel_norm(pixels)))
        # Undo autocast: the residual stream has the weights' dtype.
        return tokens.to(self.projection.weight.dtype)


class PrefixTokens(nn.Module):
    """The class token, if the model pools by it, and the registers, prepended to patches: (B, N, D) -> (B, T, D)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        design, dim = config.design, config.dim
        # Their positions add no expressiveness, but published weights have them.
        positions = design.prefix_positions if design.positions.startswith("learned") else "none"
        has_class, registers = config.has_class_token, design.registers
        self.class_token = nn.Parameter(torch.empty(dim)) if has_class else None
        self.class_position = nn.Parameter(torch.empty(dim)) if has_class and positions != "none" else None
        self.registers = nn.Parameter(torch.empty(registers, dim)) if registers else None
        self.register_positions = (
            nn.Parameter(torch.empty(registers, dim)) if registers and positions == "all" else None
        )

    def forward(self, patches: Tensor) -> Tensor:
        prefix = []
        if self.class_token is not None:
            token = self.class_token if self.class_position is None else self.class_token + self.class_position
            prefix.append(token[None])
        if self.registers is not None:
            registers = self.registers
            prefix.append(registers if self.register_positions is None else registers + self.register_positions)
        if not prefix:
            return patches
        tokens = torch.cat(prefix).to(patches.dtype).expand(patches.shape[0], -1, -1)
        return torch.cat([tokens, patches], dim=1)


class PatchDrop(nn.Module):
    """Patch dropout: in training, keep a random subset of each image's patches and rotations (arXiv 2212.00794)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, patches: Tensor, rotation: Rotation | None) -> tuple[Tensor, Rotation | None]:
        if not self.training or self.rate == 0:
            return patches, rotation
        batch, count, dim = patches.shape
        keep = max(1, round(count * (1 - self.rate)))
        indices = torch.rand(batch, count, device=patches.device).topk(keep, dim=1).indices
        patches = patches.gather(1, indices[:, :, None].expand(-1, -1, dim))
        if rotation is not None:
            rotation = Rotation(rotation.cos[indices][:, None], rotation.sin[indices][:, None])
        return patches, rotation
