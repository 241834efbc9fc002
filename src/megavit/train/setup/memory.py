"""What a run takes of the device's memory, so that one that cannot fit never starts, and one that can does."""

import math

import torch

from megavit.config.recipe import RunRecipe
from megavit.config.vit import ViTConfig
from megavit.errors import ConfigError
from megavit.model.vit import MegaVit
from megavit.runtime.memory import main_memory

# Weights, gradient, two moments, moving average, best so far: each float32.
COPIES = 6
# Of the device's memory; the rest is for the images, other programs, and what a library takes for itself.
USABLE = 0.7


def check_memory(config: ViTConfig, run: RunRecipe, device: torch.device) -> None:
    """Refuse a run that needs more memory than the device has; one that nearly does may still run out of it.

    Args:
        run: with its batch size and gradient accumulation filled in.

    Raises:
        ConfigError: saying how much, and what to make smaller.
    """
    need = least_memory(config, at_once(run.batch_size or 1, run.gradient_accumulation or 1))
    there_is = memory_of(device)
    if need > there_is:
        raise ConfigError(
            f"this training takes at least {need / 1e9:,.1f} GB of memory, and there are {there_is / 1e9:,.1f} GB: "
            "choose a smaller --model, --image-size or --batch-size, or a larger --patch-size"
        )


def parts_that_fit(config: ViTConfig, batch_size: int, gradient_checkpointing: bool, device: torch.device) -> int:
    """The smallest number of parts of a batch that are likely to fit one after the other; `batch_size` if none is."""
    room = USABLE * memory_of(device) - 4 * COPIES * _weights(config)
    images = room // activation_memory(config, gradient_checkpointing)
    return min(batch_size, math.ceil(batch_size / images)) if images >= 1 else batch_size


def at_once(batch_size: int, parts: int) -> int:
    """Images in the largest of the parts of a batch."""
    return math.ceil(batch_size / parts)


def memory_of(device: torch.device) -> int:
    """Bytes that the device has in all."""
    return torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else main_memory()


def least_memory(config: ViTConfig, images: int) -> int:
    """Bytes, a lower bound: all copies of the weights, and what a step keeps of each block for its gradient.

    Images that keep their aspect are taken to have all the patches they may have, of which they lack a few.
    """
    # In bfloat16: the normalized input, queries, keys, values, the attended values, and the MLP's hidden layer.
    token = 2 * (config.dim + 4 * config.heads * config.dim_head + config.mlp_dim)
    return 4 * COPIES * _weights(config) + images * _tokens(config) * config.depth * token


def activation_memory(config: ViTConfig, gradient_checkpointing: bool = False) -> int:
    """Bytes that a step keeps of one image for its gradient, in float32 with fused attention: an upper bound.

    With checkpointing each block keeps its input, and one block at a time all the rest.
    """
    design, tokens = config.design, _tokens(config)
    wide = config.mlp_dim * (4 if design.mlp == "swiglu" else 2)
    norms = 1 if design.block == "parallel" else 2
    inner = config.heads * config.dim_head
    # Each norm's input and output; queries, keys, values, twice where they are normalized; the attended values.
    block = 4 * (2 * norms * config.dim + (8 if design.qk_norm else 4) * inner + wide)
    kept = config.depth * 4 * config.dim + block if gradient_checkpointing else config.depth * block
    return tokens * kept


def _tokens(config: ViTConfig) -> int:
    return config.num_patches + config.num_prefix_tokens


def _weights(config: ViTConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in MegaVit.from_config(config).parameters())
