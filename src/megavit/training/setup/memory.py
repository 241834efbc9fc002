"""Estimate the device memory of a run, to reject runs that cannot fit and to choose micro-batches."""

import math

import torch

from megavit.config.recipe import RunRecipe
from megavit.config.vit import ViTConfig
from megavit.errors import ConfigError
from megavit.model.activation_memory import BFLOAT16, Numerics, activation_memory, compute_saved_activations
from megavit.model.statistics import parameter_count
from megavit.runtime.device import total_memory

# float32 copies of the parameters: weights, gradient, two moments, moving average, and best so far.
COPIES = 6
# Usable share of the device's memory; the rest is for images, libraries and other programs.
USABLE = 0.7
# Of the main memory, at least these bytes are for libraries, and for the processes that read images and their batches.
MIN_OTHERS = 3 * 2**29


def check_memory(config: ViTConfig, run: RunRecipe, device: torch.device) -> None:
    """Raise ConfigError if a lower bound of the run's memory exceeds the device's; other runs may still not fit."""
    required = min_memory(config, run)
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
    total = total_memory(device)
    usable = min(USABLE * total, total - MIN_OTHERS) if device.type == "cpu" else USABLE * total
    images = (usable - 4 * COPIES * parameter_count(config)) // activation_memory(config, gradient_checkpointing)
    return min(batch_size, math.ceil(batch_size / images)) if images >= 1 else batch_size


def micro_batch_size(batch_size: int, gradient_accumulation: int) -> int:
    """Return the number of images in the largest micro-batch."""
    return math.ceil(batch_size / gradient_accumulation)


def min_memory(config: ViTConfig, run: RunRecipe) -> int:
    """Return a lower bound in bytes of all copies of the weights and the activations of a step in bfloat16."""
    saved = compute_saved_activations(config, Numerics(BFLOAT16))
    images = micro_batch_size(run.batch_size or 1, run.gradient_accumulation or 1)
    blocks = saved.of_blocks(config.depth, run.gradient_checkpointing)
    return 4 * COPIES * parameter_count(config) + images * blocks
