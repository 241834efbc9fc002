"""Handle DTensors and plain tensors alike; DTensors are detected by their attributes, without importing the class."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def get_mesh(tensor: Tensor) -> Any:
    """Return the device mesh of a DTensor, or None for a plain tensor."""
    return getattr(tensor, "device_mesh", None)


def to_local(tensor: Tensor) -> Tensor:
    """Return this process's shard as a view, or a plain tensor itself."""
    return tensor if get_mesh(tensor) is None else tensor.to_local()  # pyrefly: ignore[missing-attribute]


def gather_full(tensor: Tensor) -> Tensor:
    """Return the full tensor; a collective operation of the processes that share it."""
    return tensor if get_mesh(tensor) is None else tensor.full_tensor()  # pyrefly: ignore[missing-attribute]


def take_shard(full: Tensor, like: Tensor) -> Tensor:
    """Return this process's shard of a full tensor, sharded as `like`, without communication."""
    mesh = get_mesh(like)
    if mesh is None:
        return full
    from torch.distributed.tensor import DTensor, Replicate

    placements: Any = like.placements  # pyrefly: ignore[missing-attribute]
    replicated = DTensor.from_local(full, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return replicated.redistribute(placements=placements).to_local()


@torch.no_grad()
def clip_grad_norm_(gradients: list[Tensor], max_norm: float) -> Tensor:
    """Clip sharded gradients to a global norm of `max_norm` in place, and return the norm before clipping."""
    norm = compute_global_norm(gradients)
    torch._foreach_mul_([to_local(gradient) for gradient in gradients], (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm


@torch.no_grad()
def compute_global_norm(gradients: Iterable[Tensor]) -> Tensor:
    """Return the 2-norm of all sharded gradients together, the same in every process."""
    import torch.distributed as dist

    by_sharding: dict[tuple[Any, tuple[int, ...]], list[Tensor]] = {}
    for gradient in gradients:
        placements: Any = gradient.placements  # pyrefly: ignore[missing-attribute]
        axes = tuple(axis for axis, placement in enumerate(placements) if not placement.is_replicate())
        by_sharding.setdefault((get_mesh(gradient), axes), []).append(to_local(gradient))
    squares = []
    for (mesh, axes), shards in by_sharding.items():
        square = torch.stack(torch._foreach_norm(shards)).square().sum()
        for axis in axes:
            dist.all_reduce(square, group=mesh.get_group(axis))
        squares.append(square)
    return torch.stack(squares).sum().sqrt()
