"""Tensors of which each process holds a part, and tensors that every process holds whole, in one way.

PyTorch's DTensor is told by its attributes: a process that trains alone never imports it.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def mesh_of(tensor: Tensor) -> Any:
    """The mesh over which `tensor` is divided; None for one that is whole."""
    return getattr(tensor, "device_mesh", None)


def local(tensor: Tensor) -> Tensor:
    """This process's part, sharing its memory."""
    return tensor if mesh_of(tensor) is None else tensor.to_local()  # pyrefly: ignore[missing-attribute]


def whole(part: Tensor, like: Tensor) -> Tensor:
    """All of a tensor that is divided as `like` is, of which `part` is here: every process must ask."""
    mesh = mesh_of(like)
    if mesh is None:
        return part
    from torch.distributed.tensor import DTensor

    placements: Any = like.placements  # pyrefly: ignore[missing-attribute]
    divided = DTensor.from_local(
        part, mesh, placements, run_check=False, shape=like.shape, stride=like.stride()
    )  # fmt: skip
    return divided.full_tensor()


def part(full: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, as of `like`; nothing is sent."""
    mesh = mesh_of(like)
    if mesh is None:
        return full
    from torch.distributed.tensor import DTensor, Replicate

    placements: Any = like.placements  # pyrefly: ignore[missing-attribute]
    everywhere = DTensor.from_local(full, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return everywhere.redistribute(placements=placements).to_local()


@torch.no_grad()
def global_norm(gradients: Iterable[Tensor]) -> Tensor:
    """The 2-norm of all of them together, the same number in every process."""
    import torch.distributed as dist

    alike: dict[tuple[Any, tuple[int, ...]], list[Tensor]] = {}
    for gradient in gradients:
        mesh = mesh_of(gradient)
        placements: Any = gradient.placements  # pyrefly: ignore[missing-attribute]
        divided = tuple(axis for axis, placement in enumerate(placements) if not placement.is_replicate())
        alike.setdefault((mesh, divided), []).append(local(gradient))
    squares = []
    for (mesh, divided), parts in alike.items():
        square = torch.stack(torch._foreach_norm(parts)).square().sum()
        for axis in divided:
            dist.all_reduce(square, group=mesh.get_group(axis))
        squares.append(square)
    return torch.stack(squares).sum().sqrt()


@torch.no_grad()
def clip_grad_norm_(gradients: list[Tensor], max_norm: float) -> Tensor:
    """Scale sharded gradients down to a global norm of at most `max_norm`; return the norm before."""
    norm = global_norm(gradients)
    torch._foreach_mul_([local(gradient) for gradient in gradients], (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm
