"""Optimizers, learning-rate schedule, and exponential moving average of the weights."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from megavit.config.recipe import OptimizerRecipe, ScheduleRecipe
from megavit.distributed.dtensor_utils import get_mesh, to_local
from megavit.model.attention import Attention
from megavit.model.embedding.conv_stem import ConvLayer
from megavit.model.mlp import FeedForward
from megavit.model.vit import MegaVit
from megavit.runtime.device import has_bfloat16
from megavit.training.optim.muon import Muon

# Ratio of Muon's learning rate to AdamW's; one setting controls both.
MUON_FACTOR = 7.0
MOMENTUM = 0.95
# AdamW's learning rate of a matrix after the embedding is divided by fan-in / BASE_WIDTH, so that a rate tuned at one
# width serves all (arXiv 2203.03466, table 3). Muon does not need this.
BASE_WIDTH = 128
# Peak learning rate of the extension of a finished run, as a share of the peak.
EXTENSION_PEAK = 0.5


def make_optimizers(model: MegaVit, recipe: OptimizerRecipe, processes: int = 1) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices in the layers and AdamW (arXiv 1711.05101) for the rest, or AdamW for all.

    Only weights of Linear layers decay. Each group's "peak" is its maximum learning rate. `processes` is the
    tensor-parallel size.
    """
    groups = _groups(model, recipe, processes)
    optimizers: list[torch.optim.Optimizer] = []
    matrices = [group for group in groups if "parts" in group]
    if matrices:
        dtype = torch.bfloat16 if has_bfloat16(next(model.parameters()).device) else torch.float32
        optimizers.append(Muon(matrices, lr=recipe.learning_rate, momentum=MOMENTUM, dtype=dtype))
    others = [group for group in groups if "parts" not in group]
    betas = (recipe.beta1, recipe.beta2)
    return [*optimizers, torch.optim.AdamW(others, lr=recipe.learning_rate, betas=betas, fused=True)]


def _groups(model: MegaVit, recipe: OptimizerRecipe, processes: int) -> list[dict[str, Any]]:
    parts = stacked_matrices(model)
    # PyTorch's fused step requires parameters of a group to share a device mesh.
    by_settings: dict[tuple[tuple[float, float, int], Any], list[Tensor]] = {}
    for path, module in model.named_modules():
        rate = recipe.learning_rate * recipe.layer_decay ** count_decays(path, model.config.depth)
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            settings = (rate, 0.0, 0)
            if isinstance(module, nn.Linear) and name == "weight":
                if recipe.kind == "muon" and module in parts:
                    settings = (rate * MUON_FACTOR, recipe.weight_decay, parts[module])
                else:
                    scale = 1 if module is model.patch_embedding.projection else BASE_WIDTH / module.in_features
                    settings = (rate * scale, recipe.weight_decay, 0)
            by_settings.setdefault((settings, get_mesh(parameter)), []).append(parameter)
    groups: list[dict[str, Any]] = []
    for ((peak, decay, num_matrices), _), parameters in by_settings.items():
        group: dict[str, Any] = {"params": parameters, "peak": peak, "weight_decay": decay}
        if num_matrices:
            group["parts"] = num_matrices
        if num_matrices > 1 and processes > 1:
            group["processes"] = processes
        groups.append(group)
    return groups


def stacked_matrices(model: MegaVit) -> dict[nn.Module, int]:
    """Return the Linear modules in the layers and the stem, with the matrices stacked along the rows of each."""
    stacked: dict[nn.Module, int] = {}
    for module in model.modules():
        match module:
            case ConvLayer():
                stacked[module.matrix] = 1
            case Attention():
                stacked |= {module.to_qkv: 3, module.out: 1}
            case FeedForward():
                stacked |= {module.into: 2 if module.mlp == "swiglu" else 1, module.out: 1}
    return stacked


def count_decays(path: str, depth: int) -> int:
    """Return the exponent of `layer_decay` for the module at `path`.

    It is 0 for the head and other modules after the layers, 1 for the last layer, one more for each layer below, and
    `depth` + 1 for the patch embedding, position embeddings and prefix tokens.
    """
    match path.split("."):
        case ["transformer", "layers", number, *_]:
            return depth - int(number)
        case [("patch_embedding" | "positions" | "prefix_tokens"), *_]:
            return depth + 1
        case _:
            return 0


def learning_rate(progress: float, peak: float, schedule: ScheduleRecipe) -> float:
    """Return the learning rate at `progress` in [0, 1]: linear warmup to `peak`, constant, then annealed to zero."""
    if progress < schedule.warmup:
        return peak * progress / schedule.warmup
    after_warmup = (progress - schedule.warmup) / (1 - schedule.warmup)
    done = max(0.0, after_warmup - schedule.hold) / (1 - schedule.hold)
    return peak * (1 - done if schedule.kind == "linear" else 0.5 * (1 + math.cos(math.pi * done)))


@torch.no_grad()
def update_ema(average: nn.Module, model: nn.Module, length: float, step: int) -> None:
    """Update the moving average of about `length` steps after `step` (from 1); it is shorter in the first steps."""
    share = max(1 / max(1.0, length), 10 / (step + 10))
    # The buffers are the statistics of BatchNorm.
    averaged, current = ([to_local(x) for x in (*m.parameters(), *m.buffers())] for m in (average, model))
    torch._foreach_lerp_(averaged, current, share)
