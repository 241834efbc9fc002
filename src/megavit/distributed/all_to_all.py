"""Exchange sharded matrices of one shape so that each process gets one full matrix, and back."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def group_size(like: Tensor) -> int:
    """Return the number of matrices sharded like `like` that can be exchanged at once, one per process."""
    return _mesh(like)["shard"].size()


def scatter_full(parts: Sequence[Tensor], like: Tensor) -> Tensor | None:
    """Return the full matrix (rows, columns) assigned to this process, or None; a collective operation.

    `parts` are local shards of at most `group_size` matrices, sharded as `like`.
    """
    mesh, rows, width = _mesh(like), _rows(like), parts[0].shape[1]
    own_rank, count = mesh.get_local_rank("shard"), len(parts)
    received = parts[0].new_empty((sum(rows) if own_rank < count else 0) * width)
    dist.all_to_all_single(
        received,
        torch.cat([part.flatten() for part in parts]),
        output_split_sizes=[size * width if own_rank < count else 0 for size in rows],
        input_split_sizes=[rows[own_rank] * width if rank < count else 0 for rank in range(len(rows))],
        group=mesh.get_group("shard"),
    )
    if own_rank >= count:
        return None
    received = received.view(-1, width)
    axis = _axis_within_layer(like)
    if axis is None:
        return received
    from torch.distributed.tensor import DTensor, Shard

    return DTensor.from_local(received, mesh["tensor"], [Shard(axis)], run_check=False).full_tensor()


def gather_shards(own: Tensor | None, count: int, like: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Return this process's shards of `count` full matrices, of which it has `own`; the inverse of `scatter_full`."""
    mesh, rows = _mesh(like), _rows(like)
    own_rank, axis = mesh.get_local_rank("shard"), _axis_within_layer(like)
    width = like.shape[1]
    if axis is not None:
        tensor = mesh["tensor"]
        width = width if axis == 0 else width // tensor.size()
        own = None if own is None else own.chunk(tensor.size(), axis)[tensor.get_local_rank()]
    local: Tensor = like.to_local()  # pyrefly: ignore[missing-attribute]
    sent = local.new_empty(0, dtype=dtype) if own is None else own.to(dtype).flatten()
    received = local.new_empty(count * rows[own_rank] * width, dtype=dtype)
    dist.all_to_all_single(
        received,
        sent,
        output_split_sizes=[rows[own_rank] * width if rank < count else 0 for rank in range(len(rows))],
        input_split_sizes=[size * width if own_rank < count else 0 for size in rows],
        group=mesh.get_group("shard"),
    )
    return list(received.view(count, rows[own_rank], width).unbind())


def _mesh(like: Tensor) -> Any:
    return like.device_mesh  # pyrefly: ignore[missing-attribute]


def _axis_within_layer(like: Tensor) -> int | None:
    """Return the axis of the matrix that tensor parallelism shards, or None."""
    names = _mesh(like).mesh_dim_names
    placements: Any = like.placements  # pyrefly: ignore[missing-attribute]
    return placements[names.index("tensor")].dim if "tensor" in names else None


def _rows(like: Tensor) -> list[int]:
    """Return the number of rows of each process along the "shard" axis, as FSDP2 shards them."""
    count = group_size(like)
    rows = like.shape[0] // (_mesh(like)["tensor"].size() if _axis_within_layer(like) == 0 else 1)
    each = -(-rows // count)
    return [max(0, min(each, rows - rank * each)) for rank in range(count)]
