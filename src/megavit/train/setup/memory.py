"""Estimate the device memory of a run, to reject runs that cannot fit and to choose micro-batches."""

import math

import torch

from megavit.config.recipe import RunRecipe
from megavit.config.vit import ViTConfig
from megavit.errors import ConfigError
from megavit.model.vit import MegaVit
from megavit.runtime.memory import main_memory

# float32 copies of the parameters: weights, gradient, two moments, moving average, and best so far.
COPIES = 6
# Usable share of the device's memory; the rest is for images, libraries and other programs.
USABLE = 0.7


def check_memory(config: ViTConfig, run: RunRecipe, device: torch.device) -> None:
    """Raise ConfigError if a lower bound of the run's memory exceeds the device's; other runs may still not fit."""
    required = min_memory(config, micro_batch_size(run.batch_size or 1, run.gradient_accumulation or 1))
    available = total_memory(device)
    if required > available:
        raise ConfigError(
            f"training needs at least {required / 1e9:,.1f} GB of memory, but the device has {available / 1e9:,.1f} "
            "GB: choose a smaller --model, --image-size or --batch-size, or a larger --patch-size"
        )


def choose_gradient_accumulation(
    config: ViTConfig, batch_size: int, gradient_checkpointing: bool, device: torch.device
) -> int:
    """Return the smallest number of micro-batches that are likely to fit into memory; `batch_size` if none is."""
    free = USABLE * total_memory(device) - 4 * COPIES * _weights(config)
    images = free // activation_memory(config, gradient_checkpointing)
    return min(batch_size, math.ceil(batch_size / images)) if images >= 1 else batch_size


def micro_batch_size(batch_size: int, gradient_accumulation: int) -> int:
    """Return the number of images in the largest micro-batch."""
    return math.ceil(batch_size / gradient_accumulation)


def total_memory(device: torch.device) -> int:
    """Return the total memory of the device in bytes."""
    return torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else main_memory()


def min_memory(config: ViTConfig, images: int) -> int:
    """Return a lower bound in bytes of all copies of the weights and the activations saved for the backward pass."""
    # In bfloat16: normalized input, queries, keys, values, attention output, and the MLP's hidden layer.
    token = 2 * (config.dim + 4 * config.heads * config.dim_head + config.mlp_dim)
    return 4 * COPIES * _weights(config) + images * _tokens(config) * config.depth * token


def activation_memory(config: ViTConfig, gradient_checkpointing: bool = False) -> int:
    """Return an upper bound of the bytes saved for the backward pass per image, in float32 with fused attention.

    With gradient checkpointing, each block saves its input, and only one block at a time saves everything.
    """
    design, tokens = config.design, _tokens(config)
    mlp = config.mlp_dim * (4 if design.mlp == "swiglu" else 2)
    norms = 1 if design.block == "parallel" else 2
    inner = config.heads * config.dim_head
    # Input and output of each norm; queries, keys, values, twice if normalized; attention output.
    block = 4 * (2 * norms * config.dim + (8 if design.qk_norm else 4) * inner + mlp)
    saved = config.depth * 4 * config.dim + block if gradient_checkpointing else config.depth * block
    return tokens * saved


def _tokens(config: ViTConfig) -> int:
    return config.num_patches + config.num_prefix_tokens


def _weights(config: ViTConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in MegaVit.from_config(config).parameters())
