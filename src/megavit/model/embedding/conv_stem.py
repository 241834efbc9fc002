"""The convolutional stem: a few convolutions that turn images into tokens."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megavit.config.vit import ViTConfig
from megavit.model.embedding.patch_embed import Embedding
from megavit.model.kernels.linear import Linear
from megavit.model.layers import make_norm


class ConvLayer(nn.Module):
    """A 3 × 3 convolution, a norm, and unless left out a ReLU: (B, C, H, W) -> (B, D, H', W').

    Its kernel is kept as the matrix (D, C × 3 × 3) that multiplies each position's surroundings, so that it is
    initialized, optimized and sharded like the other matrices.
    """

    def __init__(self, config: ViTConfig, channels: int, width: int, *, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        self.stride = stride
        self.relu = relu
        self.matrix = nn.Linear(9 * channels, width, bias=False)
        self.norm = make_norm(config.design, width)

    @property
    def kernel(self) -> Tensor:
        """The kernel (D, C, 3, 3)."""
        return self.matrix.weight.unflatten(1, (-1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.kernel, stride=self.stride, padding=1)
        # The norm's result keeps the channels last, as convolutions are fastest on a CPU.
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return F.relu(x) if self.relu else x


class ResidualLayer(nn.Module):
    """Two convolutions beside an identity (arXiv 1512.03385, figure 2): (B, D, H, W) -> (B, D, H, W)."""

    def __init__(self, config: ViTConfig, width: int) -> None:
        super().__init__()
        self.first = ConvLayer(config, width, width)
        self.second = ConvLayer(config, width, width, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class ConvStem(Embedding):
    """Convolutions of stride 2 down to one position per patch: (B, C, height, width) -> (B, N, D).

    The number of channels doubles with each of them (arXiv 2106.14881, section 4), and residual layers follow each, as
    `ViTConfig.stem_layers` counts them.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        layers: list[ConvLayer | ResidualLayer] = []
        channels = config.channels
        for width, residual in config.stem_layers:
            layers.append(ConvLayer(config, channels, width, stride=2))
            layers += (ResidualLayer(config, width) for _ in range(residual))
            channels = width
        self.layers = nn.Sequential(*layers)
        self.projection = Linear(config.dim, config.dim)

    def forward(self, img: Tensor) -> Tensor:
        self.grid(img)
        dtype = self.projection.weight.dtype
        x = self.layers(img.to(dtype, memory_format=torch.channels_last))
        return self.projection(x.flatten(2).transpose(1, 2)).to(dtype)
