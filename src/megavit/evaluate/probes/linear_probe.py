"""A linear classifier on embeddings: the logistic probe, or its counterpart for labels and scores."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from megavit.evaluate.probes.cross_validation import make_folds
from megavit.runtime.seeds import generator

# Of the weights for standardized embeddings, the strongest first.
PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
# Of L-BFGS, at most, for each penalty.
STEPS = 100
# With more than SEVERAL images one division is enough to choose the penalty by, and more than MOST choose no better.
SEVERAL, MOST = 2_000, 10_000

Loss = Callable[[Tensor, Tensor], Tensor]
"""The mean over (N, outputs) logits and (N, outputs) targets."""


class LinearProbe(NamedTuple):
    """logits = embeddings @ weight.T + bias, float32: weight (outputs, D), bias (outputs,); and the penalty chosen."""

    weight: Tensor
    bias: Tensor
    penalty: float

    def logits(self, embeddings: Tensor) -> Tensor:
        """(M, outputs) of (M, D)."""
        return embeddings @ self.weight.T + self.bias


def fit_linear_probes(
    embeddings: Tensor, targets: Tensor, loss: Loss, bias: Tensor, penalties: tuple[float, ...] = PENALTIES
) -> list[LinearProbe]:
    """A probe for each of `penalties`: the least `loss` plus penalty × the sum of squares of standardized weights.

    By L-BFGS in float64, which for these convex losses comes near the one minimum there is; each
    begins where the one before ended.

    Args:
        embeddings: (N, D).
        targets: (N, outputs), floats.
        loss: convex in the logits.
        bias: (outputs,) to start from.
    """
    wide = embeddings.double()
    mean, std = wide.mean(dim=0), wide.std(dim=0, correction=0)
    std = torch.where(std > 1e-6 * std.max().clamp_min(1e-12), std, 1.0)  # a constant feature says nothing
    inputs, targets = (wide - mean) / std, targets.double()
    weight = torch.zeros(targets.shape[1], inputs.shape[1], dtype=torch.float64, requires_grad=True)
    start = bias.detach().double().clone().requires_grad_()
    found: list[LinearProbe] = []
    for penalty in penalties:

        def value(penalty: float = penalty) -> Tensor:
            return loss(inputs @ weight.T + start, targets) + penalty * weight.square().sum()

        _minimize([weight, start], value)
        own = weight.detach() / std
        found.append(LinearProbe(own.float(), (start.detach() - own @ mean).float(), penalty))
    return found


def _minimize(parameters: list[Tensor], value: Callable[[], Tensor]) -> None:
    optimizer = torch.optim.LBFGS(parameters, max_iter=STEPS, tolerance_change=1e-7, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        found = value()
        found.backward()
        return found

    optimizer.step(closure)


def select_linear_probe(
    embeddings: Tensor, targets: Tensor, stratum: Tensor, loss: Loss, bias: Tensor, seed: int = 0
) -> LinearProbe:
    """The probe of all images, with the penalty whose loss is least in cross-validation.

    Args:
        embeddings, targets, loss, bias: as of `fit_linear_probes`.
        stratum: what the folds are balanced by, (N,) or (N, labels).
        seed: of the folds.
    """
    chosen = torch.randperm(len(embeddings), generator=generator(seed))[:MOST].sort().values
    some, answers = embeddings[chosen], targets[chosen]
    divisions = make_folds(stratum[chosen], seed=seed)[: 1 if len(embeddings) > SEVERAL else None]
    totals = [0.0] * len(PENALTIES)
    for learned, held in divisions:
        for place, probe in enumerate(fit_linear_probes(some[learned], answers[learned], loss, bias)):
            value = loss(probe.logits(some[held]), answers[held]).item() * len(held)
            totals[place] += value if math.isfinite(value) else math.inf
    return fit_linear_probes(embeddings, targets, loss, bias, (PENALTIES[totals.index(min(totals))],))[0]
