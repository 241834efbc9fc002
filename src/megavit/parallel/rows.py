"""The order of rows in matrices that hold several, one above the other: queries, keys and values; gate and value.

Tensor parallelism gives each process a run of neighbouring rows, and each needs its part of every matrix. So the rows
of one process are moved together, and back when the model is whole again.
"""

from torch import Tensor

from megavit.config.vit import ViTConfig


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
