"""Low-rank additions to a model's matrices (LoRA, arXiv 2106.09685); the model does not know about them."""

import math
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from megavit.config.recipe import OptimizerRecipe
from megavit.model.vit import MegaVit
from megavit.train.optim.optimizer import matrices_within


class LowRank(nn.Module):
    """weight + up @ down, for each of the matrices that are stacked in it: so query, key and value have their own."""

    def __init__(self, weight: Tensor, rank: int, parts: int) -> None:
        super().__init__()
        rows, columns = weight.shape
        # The product starts at zero, so that the model starts as it was.
        self.down = nn.Parameter(torch.randn(parts, rank, columns, device=weight.device) * columns**-0.5)
        self.up = nn.Parameter(torch.zeros(parts, rows // parts, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + torch.bmm(self.up, self.down).flatten(0, 1)


def add_lora(model: MegaVit, rank: int) -> None:
    """Freeze everything but the head, and give every matrix within the layers an addition of that rank.

    The additions start from torch's global random state. `merge_lora` makes an ordinary model of it again.
    """
    model.requires_grad_(False)
    model.mlp_head.requires_grad_(True)
    for module, parts in matrices_within(model).items():
        assert isinstance(module, nn.Linear)  # as all of them
        parametrize.register_parametrization(module, "weight", LowRank(module.weight, rank, parts))


@torch.no_grad()
def merge_lora(model: MegaVit) -> MegaVit:
    """An ordinary model, new and free to learn, that answers as `model`: its additions, if any, are in the weights."""
    weights = dict(model.state_dict())
    for place, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            weights = {name: tensor for name, tensor in weights.items() if not name.startswith(f"{place}.parametriz")}
            weights[f"{place}.weight"] = getattr(module, "weight")  # noqa: B009 - computed, unknown to type checkers
    with torch.device("meta"):
        plain = MegaVit.from_config(model.config)
    plain.to_empty(device=next(model.parameters()).device).load_state_dict(weights)
    return plain


Trained = Literal["lora", "last", "all"]
TRAINED: tuple[Trained, ...] = get_args(Trained)
"""In the order in which they are climbed: the more is free, the more it can learn, and forget."""

# Times the recipe's learning rate: what is added may move further than what was learned before.
RATES: dict[Trained, float] = {"lora": 3.0, "last": 1.0, "all": 1.0}
LAST_SHARE = 1 / 4


def set_free(model: MegaVit, rung: Trained, rank: int) -> None:
    """Let only those parameters of `model` need a gradient that `rung` trains; "lora" adds its own.

    "last" is the last quarter of the layers, at least one, and what follows them.
    """
    match rung:
        case "lora":
            add_lora(model, rank)
        case "last":
            frozen = model.config.depth - math.ceil(model.config.depth * LAST_SHARE)
            model.requires_grad_(False)
            for part in (*model.transformer.layers[frozen:], model.norm, model.pool, model.mlp_head):
                part.requires_grad_(True)
        case "all":
            model.requires_grad_(True)


def optimizer_of(recipe: OptimizerRecipe, rung: Trained) -> OptimizerRecipe:
    """The recipe's optimizer at the rate of `rung`. Low-rank additions learn alike in every layer."""
    decay = 1.0 if rung == "lora" else recipe.layer_decay
    return replace(recipe, learning_rate=recipe.learning_rate * RATES[rung], layer_decay=decay)
