"""Initial values of the parameters of a MegaVit."""

import math

from torch import nn

from megavit.model.embedding.patch_embed import PrefixTokens
from megavit.model.layers import BatchNorm, LayerScale
from megavit.model.pooling import AttentionPool
from megavit.model.pos_embed import LearnedPositions

TOKEN_STD = 0.02


def initialize(model: nn.Module, *, depth: int, layer_scale: float = 1.0) -> None:
    """Set every parameter of `model` to its initial value, drawn from PyTorch's global random state.

    Weights have variance about 1 / fan-in (normal, truncated at two deviations), so that tokens keep their scale at any
    width; the output projections of each layer are divided by √(2 depth), so that the residual stream keeps it at any
    depth (arXiv 1901.09321). Positions have deviation 1 / √dim: with 0.02, tokens dominate them and small models learn
    late. Other tokens and the classifier have 0.02; biases are 0.

    Raises:
        TypeError: if no rule covers a parameter.
    """
    for name, module in model.named_modules():
        initialize_module(name, module, depth=depth, layer_scale=layer_scale)


def initialize_module(name: str, module: nn.Module, *, depth: int, layer_scale: float = 1.0) -> None:
    """Set the parameters of one module, without those of its submodules, as described in `initialize`."""
    own = dict(module.named_parameters(recurse=False))
    match module:
        case nn.Linear():
            std = TOKEN_STD if name == "mlp_head" else module.in_features**-0.5
            if name.endswith(("attention.out", "mlp.out")):
                std /= math.sqrt(2 * depth)
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        case nn.LayerNorm() | nn.RMSNorm():
            for key, parameter in own.items():
                nn.init.constant_(parameter, 1.0 if key == "weight" else 0.0)
        case BatchNorm():
            for tensor, value in ((module.weight, 1), (module.bias, 0), (module.mean, 0), (module.variance, 1)):
                nn.init.constant_(tensor, value)
        case LearnedPositions():
            nn.init.normal_(module.table, std=module.table.shape[1] ** -0.5)
        case PrefixTokens() | AttentionPool():
            for parameter in own.values():
                nn.init.normal_(parameter, std=TOKEN_STD)
        case LayerScale():
            nn.init.constant_(module.factor, layer_scale)
        case _ if own:
            raise TypeError(f"no initial value is defined for {name or 'the model'}: {', '.join(own)}")
