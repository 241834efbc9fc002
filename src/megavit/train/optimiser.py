"""AdamW over the model's tensors, its learning-rate schedule, and the average of the weights."""

import math

import torch
from torch import nn

from megavit.config.recipe import OptimiserRecipe, ScheduleRecipe


def make_optimiser(model: nn.Module, recipe: OptimiserRecipe) -> torch.optim.AdamW:
    """AdamW (arXiv 1711.05101) that decays the Linear weights only: not norms, biases, tokens and positions."""
    decayed = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    groups = [
        {"params": [p for p in model.parameters() if id(p) in decayed], "weight_decay": recipe.weight_decay},
        {"params": [p for p in model.parameters() if id(p) not in decayed], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.beta1, recipe.beta2), fused=True)


def learning_rate(progress: float, peak: float, schedule: ScheduleRecipe) -> float:
    """The rate at `progress` in [0, 1] of a run: linearly up from zero to `peak`, level, then down to zero."""
    if progress < schedule.warmup:
        return peak * progress / schedule.warmup
    after_warmup = (progress - schedule.warmup) / (1 - schedule.warmup)
    done = max(0.0, after_warmup - schedule.hold) / (1 - schedule.hold)
    return peak * (1 - done if schedule.kind == "linear" else 0.5 * (1 + math.cos(math.pi * done)))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, length: float, step: int) -> None:
    """Move `average` towards `model` after `step` (from 1): a moving average over about `length` steps.

    The first steps, of a poor model, are forgotten sooner.
    """
    share = max(1 / max(1.0, length), 10 / (step + 10))
    for averaged, current in zip(average.parameters(), model.parameters(), strict=True):
        averaged.lerp_(current, share)
