"""Muon: momentum whose matrices are orthogonalised before they are applied."""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

from megavit.parallel.rows import by_part, by_process
from megavit.parallel.shards import local, part, whole

# Five steps of this polynomial bring every singular value to about 1 (github.com/KellerJordan/Muon).
QUINTIC = (3.4445, -4.7750, 2.0315)
STEPS = 5
# Elements of the matrices of one shape that are turned together: 2 GiB of copies. One matrix may have more.
AT_ONCE = 2**27


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised by Newton-Schulz iteration, for matrices (K. Jordan et al., 2024).

    Matrices of one shape are handled together, and a parameter that holds several matrices one on top of the other,
    such as queries, keys and values, is given as a group with `parts`: each is orthogonalised by itself. An update
    has a spectral norm of about √(rows / columns) times the rate, so that one rate serves any width (arXiv
    2310.17813), and decays the weights by rate × `weight_decay`.

    Groups take "lr", "momentum" in [0, 1), "weight_decay", "parts", and "processes" where rows are in the order of
    `megavit.parallel.rows` for so many. `dtype` is the iteration's, for which bfloat16 is exact enough.

    Of a matrix that is divided over processes, all of them gather it and turn it whole, each for its own part: the
    momentum stays divided, but every process computes what one alone would, and receives all its other parts.
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
            for shape, parameters in by_shape.items():
                together = max(1, AT_ONCE // shape.numel())
                for start in range(0, len(parameters), together):
                    self._update(parameters[start : start + together], group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [local(p.grad) for p in parameters if p.grad is not None]
        momenta = [local(self._momentum(p)) for p in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])
        parts, processes = group["parts"], group["processes"]
        gathered = [whole(matrix, p) for matrix, p in zip(ahead, parameters, strict=True)]
        if processes > 1:
            gathered = [by_part(matrix, parts, processes) for matrix in gathered]
        stacked = torch.stack(gathered).unflatten(1, (parts, -1))
        turned = orthogonalise(stacked.flatten(0, 1), self.dtype).unflatten(0, (-1, parts))
        rows, columns = turned.shape[-2:]
        changes = list((turned.flatten(1, 2) * (rows / columns) ** 0.5).to(parameters[0].dtype))
        if processes > 1:
            changes = [by_process(change, parts, processes) for change in changes]
        changes = [part(change, p) for change, p in zip(changes, parameters, strict=True)]
        mine = [local(p) for p in parameters]
        torch._foreach_mul_(mine, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(mine, changes, alpha=-group["lr"])

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        return state["momentum"]


def orthogonalise(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """(count, rows, columns) -> the same with its singular values brought to about 0.7 to 1.2, computed in `dtype`."""
    a, b, c = QUINTIC
    x = matrices.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
