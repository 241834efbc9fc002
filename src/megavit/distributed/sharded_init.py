"""Initial values of a model that is divided: those that it would have whole, made a part at a time.

So no process ever holds more than its share and one matrix.
"""

import torch

from megavit.distributed.fused_qkv_rows import place
from megavit.model.init import initialize_module
from megavit.model.vit import MegaVit


@torch.no_grad()
def init_sharded_weights(model: MegaVit, tensor: int) -> None:
    """As `MegaVit.initialize` of a whole model on such a device: each process draws all numbers, and keeps its own.

    Args:
        tensor: processes that compute a layer together.
    """
    config = model.config
    with torch.device("meta"):
        plain = MegaVit.from_config(config)
    divided = dict(model.named_parameters())
    device = next(model.parameters()).device
    for name, module in plain.named_modules():
        module.to_empty(device=device, recurse=False)
        initialize_module(name, module, depth=config.depth, layer_scale=config.design.layer_scale or 1.0)
        for key, parameter in module.named_parameters(name, recurse=False):
            place(parameter, key, divided[key], config, tensor)
        module.to("meta")
