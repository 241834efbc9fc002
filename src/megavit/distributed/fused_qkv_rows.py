"""Row order of weights that stack several matrices: query, key and value, or gate and value.

Tensor parallelism gives each process consecutive rows, so the rows of all matrices for one process are grouped
together, and regrouped by matrix when the weight is gathered.
"""

import torch
from torch import Tensor

from megavit.config.vit import ViTConfig
from megavit.distributed.dtensor_utils import get_mesh, take_shard, to_local


def count_fused(name: str, config: ViTConfig) -> int:
    """Return the number of matrices, or biases, stacked in the parameter `name` of a MegaVit."""
    module = name.rpartition(".")[0]
    if module.endswith("attention.to_qkv"):
        return 3
    return 2 if module.endswith("mlp.into") and config.design.mlp == "swiglu" else 1


def group_by_process(tensor: Tensor, fused: int, tp_size: int) -> Tensor:
    """Reorder rows from (matrix, process, row) to (process, matrix, row)."""
    return tensor.unflatten(0, (fused, tp_size, -1)).transpose(0, 1).flatten(0, 2)


def group_by_matrix(tensor: Tensor, fused: int, tp_size: int) -> Tensor:
    """Reorder rows from (process, matrix, row) to (matrix, process, row)."""
    return tensor.unflatten(0, (tp_size, fused, -1)).transpose(0, 1).flatten(0, 2)


@torch.no_grad()
def copy_shard_(target: Tensor, full: Tensor, fused: int, tp_size: int) -> None:
    """Copy this process's shard of a full tensor of `fused` matrices into `target` in place, without communication."""
    if fused > 1 and tp_size > 1 and full.ndim:
        full = group_by_process(full, fused, tp_size)
    local = to_local(target)
    local.copy_(full if get_mesh(target) is None else take_shard(full.to(local.device), target))
