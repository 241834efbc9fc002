"""Initialize a sharded model module by module, with the same values as an unsharded one and little extra memory."""

import torch

from megavit.distributed.fused_qkv_rows import copy_shard_, count_fused
from megavit.model.init import initialize_module
from megavit.model.vit import MegaVit


@torch.no_grad()
def init_sharded_weights(model: MegaVit, tp_size: int) -> None:
    """Initialize as `MegaVit.initialize` does: each process draws all random numbers and keeps its shard."""
    config = model.config
    with torch.device("meta"):
        plain = MegaVit.from_config(config)
    parameters = dict(model.named_parameters())
    device = next(model.parameters()).device
    for name, module in plain.named_modules():
        module.to_empty(device=device, recurse=False)
        initialize_module(name, module, depth=config.depth, layer_scale=config.design.layer_scale or 1.0)
        for key, full in module.named_parameters(name, recurse=False):
            copy_shard_(parameters[key], full, count_fused(key, config), tp_size)
        module.to("meta")
