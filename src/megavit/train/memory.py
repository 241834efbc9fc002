"""What a run takes of the device's memory at the very least, so that one that cannot fit never starts."""

import torch

from megavit.config.vit import ViTConfig
from megavit.errors import ConfigError
from megavit.model.vit import MegaVit
from megavit.runtime.memory import main_memory

# Weights, gradient, two moments, moving average, best so far: each float32.
COPIES = 6


def check_memory(config: ViTConfig, batch_size: int, device: torch.device) -> None:
    """Refuse a run that needs more memory than the device has; one that nearly does may still run out of it.

    Raises:
        ConfigError: saying how much, and what to make smaller.
    """
    need = least_memory(config, batch_size)
    there_is = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else main_memory()
    if need > there_is:
        raise ConfigError(
            f"this training takes at least {need / 1e9:,.1f} GB of memory, and there are {there_is / 1e9:,.1f} GB: "
            "choose a smaller --model, --image-size or --batch-size, or a larger --patch-size"
        )


def least_memory(config: ViTConfig, batch_size: int) -> int:
    """Bytes, a lower bound: all copies of the weights, and what a step keeps of each block for its gradient.

    Images that keep their aspect are taken to have all the patches they may have, of which they lack a few.
    """
    with torch.device("meta"):
        weights = sum(p.numel() for p in MegaVit.from_config(config).parameters())
    tokens = config.num_patches + config.num_prefix_tokens
    # In bfloat16: the normalised input, queries, keys, values, the attended values, and the MLP's hidden layer.
    token = 2 * (config.dim + 4 * config.heads * config.dim_head + config.mlp_dim)
    return 4 * COPIES * weights + batch_size * tokens * config.depth * token
