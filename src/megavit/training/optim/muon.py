"""Muon: an optimizer with orthogonalized momentum."""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

from megavit.distributed.dtensor_utils import get_mesh, to_local
from megavit.distributed.fused_qkv_rows import group_by_matrix, group_by_process

# Newton-Schulz coefficients; five steps bring every singular value to about 1 (github.com/KellerJordan/Muon).
QUINTIC = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
# Maximum number of elements orthogonalized together (2 GiB of copies); a single matrix may have more.
CHUNK_ELEMENTS = 2**27


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized by Newton-Schulz iteration, for matrices (K. Jordan et al., 2024).

    An update has a spectral norm of about lr × √(rows / columns), so that one learning rate serves any width (arXiv
    2310.17813), and decays the weights by lr × weight_decay. Of sharded matrices, each process orthogonalizes some in
    full (`megavit.distributed.all_to_all`); momentum stays sharded.

    Args:
        params: parameters, or groups with the keys "lr", "momentum" in [0, 1), "weight_decay", "parts" (matrices in a
            parameter, orthogonalized separately), and "processes" (tensor-parallel size that the rows are ordered for,
            see `megavit.distributed.fused_qkv_rows`).
        dtype: data type of the iteration, for which bfloat16 is precise enough.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        matrix = {"parts": 1, "processes": 1}
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay} | matrix)
        self.dtype = dtype

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for parameters in by_shape.values():
                chunk = chunk_size(parameters[0])
                for start in range(0, len(parameters), chunk):
                    self._update(parameters[start : start + chunk], group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [to_local(p.grad) for p in parameters if p.grad is not None]
        momenta = [to_local(self._momentum(p)) for p in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])
        if get_mesh(parameters[0]) is None:
            changes = list(self._orthogonalize(torch.stack(ahead), group))
        else:
            from megavit.distributed.all_to_all import gather_shards, scatter_full

            own = scatter_full(ahead, parameters[0])
            orthogonalized = None if own is None else self._orthogonalize(own[None], group)[0]
            changes = gather_shards(orthogonalized, len(ahead), parameters[0], self.dtype)
        weights = [to_local(p) for p in parameters]
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, [change.to(weights[0].dtype) for change in changes], alpha=-group["lr"])

    def _orthogonalize(self, matrices: Tensor, group: dict[str, Any]) -> Tensor:
        """Return the updates (count, rows, columns) for a learning rate of -1, in `dtype`."""
        parts, processes = group["parts"], group["processes"]
        if processes > 1:
            matrices = torch.stack([group_by_matrix(matrix, parts, processes) for matrix in matrices])
        orthogonalized = orthogonalize(matrices.unflatten(1, (parts, -1)).flatten(0, 1), self.dtype)
        rows, columns = orthogonalized.shape[-2:]
        changes = (orthogonalized * (rows / columns) ** 0.5).unflatten(0, (-1, parts)).flatten(1, 2)
        if processes > 1:
            changes = torch.stack([group_by_process(change, parts, processes) for change in changes])
        return changes

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        return state["momentum"]


def chunk_size(like: Tensor) -> int:
    """Return the number of matrices shaped like `like` that are orthogonalized together."""
    if get_mesh(like) is None:
        return max(1, CHUNK_ELEMENTS // like.numel())
    from megavit.distributed.all_to_all import group_size

    return group_size(like)


def orthogonalize(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Return matrices (count, rows, columns) with singular values brought to about 0.7 to 1.2, computed in `dtype`."""
    a, b, c = QUINTIC
    x = matrices.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
