"""The order of rows in matrices that hold several, one above the other: queries, keys and values; gate and value.

Tensor parallelism gives each process a run of neighboring rows, and each needs its part of every matrix. So the rows
of one process are moved together, and back when the model is whole again.
"""

import torch
from torch import Tensor

from megavit.config.vit import ViTConfig
from megavit.distributed.dtensor_utils import local, mesh_of, part


def fused(name: str, config: ViTConfig) -> int:
    """How many matrices, or biases, the parameter `name` of a MegaVit holds one above the other."""
    place = name.rpartition(".")[0]
    if place.endswith("attention.to_qkv"):
        return 3
    return 2 if place.endswith("mlp.into") and config.design.mlp == "swiglu" else 1


def by_process(tensor: Tensor, parts: int, processes: int) -> Tensor:
    """Rows ordered (part, process, row) -> (process, part, row)."""
    return tensor.unflatten(0, (parts, processes, -1)).transpose(0, 1).flatten(0, 2)


def by_part(tensor: Tensor, parts: int, processes: int) -> Tensor:
    """The reverse of `by_process`."""
    return tensor.unflatten(0, (processes, parts, -1)).transpose(0, 1).flatten(0, 2)


@torch.no_grad()
def place(full: Tensor, name: str, target: Tensor, config: ViTConfig, processes: int) -> None:
    """Fill `target` with what it holds of a whole tensor with the rows of the parameter `name`; nothing is sent.

    Args:
        processes: that compute a layer together.
    """
    parts = fused(name, config)
    if parts > 1 and processes > 1 and full.ndim:
        full = by_process(full, parts, processes)
    mine = local(target)
    mine.copy_(full if mesh_of(target) is None else part(full.to(mine.device), target))
