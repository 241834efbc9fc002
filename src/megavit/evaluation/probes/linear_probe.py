"""Fit linear probes on embeddings for any kind of target, with L2 penalties selected by cross-validation."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from megavit.evaluation.probes.cross_validation import make_folds
from megavit.runtime.seeds import generator

# L2 penalties on the weights for standardized embeddings, the strongest first.
PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
# Maximum number of L-BFGS steps per penalty.
MAX_STEPS = 100
# Number of images above which one fold suffices to select the penalty, and the number of images to select it on.
ONE_FOLD_IMAGES, MAX_SELECTION_IMAGES = 2_000, 10_000

Loss = Callable[[Tensor, Tensor], Tensor]
"""Mean loss of (N, outputs) logits for (N, ...) targets, which mostly are (N, outputs)."""


class LinearProbe(NamedTuple):
    """A linear probe: logits = embeddings @ weight.T + bias, float32, with weight (outputs, D) and bias (outputs,)."""

    weight: Tensor
    bias: Tensor
    penalty: float

    def logits(self, embeddings: Tensor) -> Tensor:
        """Return logits (M, outputs) for embeddings (M, D)."""
        return embeddings @ self.weight.T + self.bias


def fit_linear_probes(
    embeddings: Tensor, targets: Tensor, loss: Loss, bias: Tensor, penalties: tuple[float, ...] = PENALTIES
) -> list[LinearProbe]:
    """Return a probe for each penalty, which minimizes `loss` + penalty × the squared norm of standardized weights.

    L-BFGS in float64, each fit warm-started from the previous one.

    Args:
        embeddings: (N, D).
        targets: (N, ...), floats, as `loss` takes them.
        loss: loss that is convex in the logits.
        bias: (outputs,) initial bias.
    """
    features = embeddings.double()
    mean, std = features.mean(dim=0), features.std(dim=0, correction=0)
    std = torch.where(std > 1e-6 * std.max().clamp_min(1e-12), std, 1.0)  # constant features
    inputs, targets = (features - mean) / std, targets.double()
    weight = torch.zeros(len(bias), inputs.shape[1], dtype=torch.float64, requires_grad=True)
    start = bias.detach().double().clone().requires_grad_()
    probes: list[LinearProbe] = []
    for penalty in penalties:

        def objective(penalty: float = penalty) -> Tensor:
            return loss(inputs @ weight.T + start, targets) + penalty * weight.square().sum()

        minimize_lbfgs([weight, start], objective)
        unscaled = weight.detach() / std
        probes.append(LinearProbe(unscaled.float(), (start.detach() - unscaled @ mean).float(), penalty))
    return probes


def minimize_lbfgs(parameters: list[Tensor], objective: Callable[[], Tensor]) -> None:
    """Change the parameters in place to those that minimize a smooth objective, by at most `MAX_STEPS` of L-BFGS."""
    optimizer = torch.optim.LBFGS(parameters, max_iter=MAX_STEPS, tolerance_change=1e-7, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = objective()
        value.backward()
        return value

    optimizer.step(closure)


def select_linear_probe(
    embeddings: Tensor, targets: Tensor, strata: Tensor, loss: Loss, bias: Tensor, *, seed: int = 0
) -> LinearProbe:
    """Return the probe fitted on all images with the penalty that has the lowest cross-validation loss.

    Args:
        embeddings, targets, loss, bias: as for `fit_linear_probes`.
        strata: (N,) or (N, labels) targets to stratify the folds by.
    """
    chosen = torch.randperm(len(embeddings), generator=generator(seed))[:MAX_SELECTION_IMAGES].sort().values
    x, y = embeddings[chosen], targets[chosen]
    folds = make_folds(strata[chosen], seed=seed)[: 1 if len(embeddings) > ONE_FOLD_IMAGES else None]
    totals = [0.0] * len(PENALTIES)
    for train, held_out in folds:
        for i, probe in enumerate(fit_linear_probes(x[train], y[train], loss, bias)):
            value = loss(probe.logits(x[held_out]), y[held_out]).item() * len(held_out)
            totals[i] += value if math.isfinite(value) else math.inf
    return fit_linear_probes(embeddings, targets, loss, bias, (PENALTIES[totals.index(min(totals))],))[0]
