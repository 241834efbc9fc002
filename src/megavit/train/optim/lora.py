"""What fine-tuning trains of a model: low-rank additions (LoRA, arXiv 2106.09685), its last layers, or all of it."""

import math
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from megavit.config.recipe import OptimizerRecipe
from megavit.model.vit import MegaVit
from megavit.train.optim.optimizer import stacked_matrices


class LowRank(nn.Module):
    """weight + up @ down, for each of the matrices stacked in it: query, key and value have additions of their own."""

    def __init__(self, weight: Tensor, rank: int, parts: int) -> None:
        super().__init__()
        rows, columns = weight.shape
        # The product starts at zero, so that the model starts as it was.
        self.down = nn.Parameter(torch.randn(parts, rank, columns, device=weight.device) * columns**-0.5)
        self.up = nn.Parameter(torch.zeros(parts, rows // parts, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + torch.bmm(self.up, self.down).flatten(0, 1)


def add_lora(model: MegaVit, rank: int) -> None:
    """Freeze everything but the head, and give every matrix in the layers an addition of rank `rank`.

    The additions are drawn from torch's global random state. `merge_lora` makes an ordinary model of it again.
    """
    model.requires_grad_(False)
    model.mlp_head.requires_grad_(True)
    for module, parts in stacked_matrices(model).items():
        assert isinstance(module, nn.Linear)  # as all of them
        parametrize.register_parametrization(module, "weight", LowRank(module.weight, rank, parts))


@torch.no_grad()
def merge_lora(model: MegaVit) -> MegaVit:
    """Return an ordinary, unfrozen model with the outputs of `model`: its additions, if any, are in the weights."""
    weights = dict(model.state_dict())
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            weights = {key: tensor for key, tensor in weights.items() if not key.startswith(f"{name}.parametriz")}
            weights[f"{name}.weight"] = getattr(module, "weight")  # noqa: B009 - computed, unknown to type checkers
    with torch.device("meta"):
        plain = MegaVit.from_config(model.config)
    plain.to_empty(device=next(model.parameters()).device).load_state_dict(weights)
    return plain


FinetuneMethod = Literal["lora", "last", "all"]
FINETUNE_METHODS: tuple[FinetuneMethod, ...] = get_args(FinetuneMethod)
"""In the order in which they are tried: the more is trained, the more it can learn, and forget."""

# Times the recipe's learning rate: what is added may move further than what was learned before.
LEARNING_RATE_FACTORS: dict[FinetuneMethod, float] = {"lora": 3.0, "last": 1.0, "all": 1.0}
PARTIAL_SHARE = 1 / 4


def unfreeze(model: MegaVit, method: FinetuneMethod, rank: int) -> None:
    """Let only those parameters of `model` need a gradient that `method` trains; "lora" adds its own.

    "last" is the last quarter of the layers, at least one, and what follows them.
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
    """Return the recipe's optimizer at the rate of `method`. Low-rank additions learn alike in every layer."""
    decay = 1.0 if method == "lora" else recipe.layer_decay
    return replace(recipe, learning_rate=recipe.learning_rate * LEARNING_RATE_FACTORS[method], layer_decay=decay)
