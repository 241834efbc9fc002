"""Parameter shapes, parameter counts and FLOPs of a model, computed without allocating its weights."""

import math
from collections.abc import Mapping
from functools import lru_cache

import torch

from megavit.config.vit import ViTConfig
from megavit.model.vit import MegaVit

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


@lru_cache(maxsize=64)
def parameter_shapes(config: ViTConfig) -> Shapes:
    """Return the shape of each parameter of `MegaVit.from_config(config)` by name; do not modify the result."""
    with torch.device("meta"):
        model = MegaVit.from_config(config)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def block_shapes(config: ViTConfig) -> Shapes:
    """Return the parameter shapes of one layer, by their names within the layer."""
    first = "transformer.layers.0."
    return {
        name.removeprefix(first): shape for name, shape in parameter_shapes(config).items() if name.startswith(first)
    }


def parameter_count(config: ViTConfig) -> int:
    """Return the model's number of parameters."""
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())


def forward_flops(config: ViTConfig, grid: tuple[int, int] | None = None, *, all_tokens: bool = True) -> int:
    """Return the floating-point operations of a forward pass on one image: two per multiply-add of a matrix product.

    Norms, activations and the softmax are not counted (arXiv 2204.02311, appendix B).

    Args:
        grid: (rows, columns) of patches; None means those of the model's image size.
        all_tokens: whether the last layer computes all tokens, as in `MegaVit.features`, or only those that
            `MegaVit.pooled` needs.
    """
    rows, columns = grid or config.grid
    patches = rows * columns
    tokens = patches + config.num_prefix_tokens
    dim, inner, hidden = config.dim, config.heads * config.dim_head, config.mlp_dim
    embedding = patches * _embedding_products(config)
    attention = tokens * 4 * dim * inner + 2 * tokens**2 * inner
    mlp = tokens * (3 if config.design.mlp == "swiglu" else 2) * dim * hidden
    is_only_class = config.pool == "cls" and config.design.norm != "batch" and not all_tokens
    left_out = (tokens - 1) * ((dim + 2 * tokens) * inner + mlp // tokens) if is_only_class else 0
    pooled = tokens if config.design.pool_prefix else patches
    pooling = dim**2 * (2 * pooled + 2) + 2 * pooled * dim + 2 * dim * hidden if config.pool == "map" else 0
    head = config.pooled_dim * config.num_classes
    return 2 * (embedding + config.depth * (attention + mlp) - left_out + pooling + head)


def _embedding_products(config: ViTConfig) -> int:
    """Return the multiply-adds that turn the pixels of a patch into a token."""
    if config.design.stem == "patch":
        return config.channels * math.prod(config.patch_hw) * config.dim
    products, channels, positions = config.dim**2, config.channels, math.prod(config.patch_hw)
    for width, residual in config.stem_layers:
        positions //= 4
        products += positions * 9 * width * (channels + 2 * residual * width)
        channels = width
    return products


def training_flops(config: ViTConfig, grid: tuple[int, int] | None = None, *, all_tokens: bool = True) -> int:
    """Return the operations of a training step on one image: three `forward_flops` (arXiv 2204.02311)."""
    return 3 * forward_flops(config, grid, all_tokens=all_tokens)
