"""Image to patch tokens."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from megavit.config.vit import ViTConfig, check_divides
from megavit.model.norm import make_norm


class PatchEmbedding(nn.Module):
    """Cuts an image into patches and projects each: (B, C, height, width) -> (B, N, D), row by row.

    The projection is a Linear over a patch flattened as (channel, row, column), the order of a
    convolution's weight, so that a peer's `(D, C, p, p)` kernel fits after a reshape. With `patch_overlap`, a patch
    also sees so many pixels of its neighbors on each side, and zeros beyond the image's edge.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.channels = config.channels
        self.patch_hw = config.patch_hw
        self.overlap = config.design.patch_overlap
        seen_height, seen_width = (side + 2 * self.overlap for side in config.patch_hw)
        pixels = config.channels * seen_height * seen_width
        design = config.design
        self.pixel_norm = make_norm(design, pixels) if design.patch_norm else nn.Identity()
        self.projection = nn.Linear(pixels, config.dim)
        self.norm = make_norm(design, config.dim) if design.patch_norm else nn.Identity()

    def grid(self, img: Tensor) -> tuple[int, int]:
        """(rows, columns) of patches of `img`.

        Raises:
            ValueError: unless `img` is a float tensor (B, channels, height, width) whose sides divide by the patch's.
        """
        if img.ndim != 4:
            raise ValueError(f"images must be (batch, channels, height, width), got shape {tuple(img.shape)}")
        if img.shape[1] != self.channels:
            raise ValueError(f"this model takes images of {self.channels} channels, got {img.shape[1]}")
        if not img.is_floating_point():
            raise ValueError(f"images must be floating point and normalized, got {img.dtype}")
        height, width = img.shape[2:]
        check_divides((height, width), self.patch_hw)
        if height == 0 or width == 0:
            raise ValueError(f"images must have pixels, got {height} × {width}")
        return height // self.patch_hw[0], width // self.patch_hw[1]

    def grids(self, images: Sequence[Tensor]) -> list[tuple[int, int]]:
        """`grid` of each of some images (channels, height, width), of which there must be one or more.

        Raises:
            ValueError: as `grid`, naming the image by its place, or where they are not alike in dtype and device.
        """
        if not images:
            raise ValueError("there must be at least one image")
        found = []
        for place, img in enumerate(images):
            try:
                if img.ndim != 3:
                    raise ValueError(f"images must be (channels, height, width), got shape {tuple(img.shape)}")
                found.append(self.grid(img[None]))
            except ValueError as error:
                raise ValueError(f"image {place} of {len(images)}: {error}") from error
            if (img.dtype, img.device) != (images[0].dtype, images[0].device):
                raise ValueError(
                    f"image {place} of {len(images)} is {img.dtype} on {img.device}, "
                    f"the first one {images[0].dtype} on {images[0].device}; they must be alike"
                )
        return found

    def pixels(self, img: Tensor) -> Tensor:
        """What each patch sees of `img`, flattened: (B, N, C · height · width)."""
        patches = F.pad(img, (self.overlap,) * 4) if self.overlap else img
        for axis, side in zip((2, 3), self.patch_hw, strict=True):
            patches = patches.unfold(axis, side + 2 * self.overlap, side)
        return patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)

    def forward(self, img: Tensor) -> Tensor:
        self.grid(img)
        pixels = self.pixels(img.to(self.projection.weight.dtype))
        tokens = self.norm(self.projection(self.pixel_norm(pixels)))
        # Autocast answers in its own dtype; the residual stream that starts here keeps the weights'.
        return tokens.to(self.projection.weight.dtype)
