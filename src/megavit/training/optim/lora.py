"""Fine-tuning methods: the last layers, low-rank adaptation (LoRA, arXiv 2106.09685), or all layers."""

import math
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from megavit.config.recipe import OptimizerRecipe
from megavit.model.vit import MegaVit
from megavit.training.optim.optimizer import stacked_matrices


class LowRank(nn.Module):
    """A parametrization weight + up @ down, separate for each matrix stacked in the weight (query, key and value)."""

    def __init__(self, weight: Tensor, rank: int, parts: int) -> None:
        super().__init__()
        rows, columns = weight.shape
        # The product starts at zero, so that the model's outputs are unchanged.
        self.down = nn.Parameter(torch.randn(parts, rank, columns, device=weight.device) * columns**-0.5)
        self.up = nn.Parameter(torch.zeros(parts, rows // parts, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + torch.bmm(self.up, self.down).flatten(0, 1)


def add_lora(model: MegaVit, rank: int) -> None:
    """Freeze everything but the head, and add a low-rank update of rank `rank` to every matrix in the layers.

    The updates are initialized from torch's global random state; `merge_lora` merges them into the weights.
    """
    model.requires_grad_(False)
    model.mlp_head.requires_grad_(True)
    for module, parts in stacked_matrices(model).items():
        assert isinstance(module, nn.Linear)
        parametrize.register_parametrization(module, "weight", LowRank(module.weight, rank, parts))


@torch.no_grad()
def merge_lora(model: MegaVit) -> MegaVit:
    """Return a plain, unfrozen model with the outputs of `model`, its low-rank updates merged into the weights."""
    weights = dict(model.state_dict())
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            weights = {key: tensor for key, tensor in weights.items() if not key.startswith(f"{name}.parametriz")}
            weights[f"{name}.weight"] = getattr(module, "weight")  # noqa: B009 - computed, unknown to type checkers
    with torch.device("meta"):
        plain = MegaVit.from_config(model.config)
    plain.to_empty(device=next(model.parameters()).device).load_state_dict(weights)
    return plain


FinetuneMethod = Literal["last", "lora", "all"]
FINETUNE_METHODS: tuple[FinetuneMethod, ...] = get_args(FinetuneMethod)
"""Fine-tuning methods in the order in which they are tried, by the time that a step takes."""

# Factors of the recipe's learning rate; new low-rank updates can take larger steps than pretrained weights.
LEARNING_RATE_FACTORS: dict[FinetuneMethod, float] = {"last": 2.0, "lora": 2.0, "all": 1.0}
PARTIAL_SHARE = 1 / 4


def unfreeze(model: MegaVit, method: FinetuneMethod, rank: int) -> None:
    """Freeze all parameters of `model` except those that `method` trains; "lora" adds its own.

    "last" trains the last quarter of the layers, at least one, and the modules after them.
    """
    match method:
        case "lora":
            add_lora(model, rank)
        case "last":
            num_frozen = model.config.depth - math.ceil(model.config.depth * PARTIAL_SHARE)
            model.requires_grad_(False)
            for module in (*model.transformer.layers[num_frozen:], model.norm, model.pool, model.mlp_head):
                module.requires_grad_(True)
        case "all":
            model.requires_grad_(True)


def scale_learning_rate(recipe: OptimizerRecipe, method: FinetuneMethod) -> OptimizerRecipe:
    """Return the optimizer recipe with the learning rate of `method`; LoRA uses the same rate in every layer."""
    decay = 1.0 if method == "lora" else recipe.layer_decay
    return replace(recipe, learning_rate=recipe.learning_rate * LEARNING_RATE_FACTORS[method], layer_decay=decay)
