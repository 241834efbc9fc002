"""The convolutional stem: a few convolutions that turn images into tokens."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megavit.config.vit import ViTConfig
from megavit.model.layers import make_norm
from megavit.model.patch_embed import Embedding


class ConvLayer(nn.Module):
    """A 3 × 3 convolution, a norm over the channels of each position, and ReLU: (B, C, H, W) -> (B, D, H', W').

    Its kernel is kept as the matrix (D, C × 3 × 3) that multiplies each position's surroundings, so that it is
    initialized, optimized and sharded like the other matrices.
    """

    def __init__(self, config: ViTConfig, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.matrix = nn.Linear(9 * channels, width, bias=False)
        self.norm = make_norm(config.design, width)

    @property
    def kernel(self) -> Tensor:
        """The kernel (D, C, 3, 3)."""
        return self.matrix.weight.unflatten(1, (-1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.kernel, stride=self.stride, padding=1)
        # The norm's result keeps the channels last, as convolutions are fastest on a CPU.
        return F.relu(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


class ConvStem(Embedding):
    """Convolutions of stride 2 down to one position per patch, and one more: (B, C, height, width) -> (B, N, D).

    The number of channels doubles with each of them (arXiv 2106.14881, section 4). Norms are over channels, not over
    the batch, so that an image's tokens do not depend on the other images.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        widths = config.stem_widths
        strides = (*(2 for _ in widths[1:]), 1)
        self.layers = nn.Sequential(
            *(
                ConvLayer(config, channels, width, stride)
                for channels, width, stride in zip((config.channels, *widths), widths, strides, strict=False)
            )
        )
        self.projection = nn.Linear(config.dim, config.dim)

    def forward(self, img: Tensor) -> Tensor:
        self.grid(img)
        dtype = self.projection.weight.dtype
        x = self.layers(img.to(dtype, memory_format=torch.channels_last))
        return self.projection(x.flatten(2).transpose(1, 2)).to(dtype)
