"""The rungs of fine-tuning that are trained by gradient: what each of them leaves free, and how fast it learns."""

import math
from dataclasses import replace
from typing import Literal, get_args

from megavit.config.recipe import OptimiserRecipe
from megavit.model.vit import MegaVit
from megavit.train.lora import add_lora

Trained = Literal["lora", "last", "all"]
TRAINED: tuple[Trained, ...] = get_args(Trained)
"""In the order in which they are climbed: the more is free, the more it can learn, and forget."""

# Times the recipe's learning rate: what is added may move further than what was learnt before.
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


def optimiser_of(recipe: OptimiserRecipe, rung: Trained) -> OptimiserRecipe:
    """The recipe's optimiser at the rate of `rung`. Low-rank additions learn alike in every layer."""
    decay = 1.0 if rung == "lora" else recipe.layer_decay
    return replace(recipe, learning_rate=recipe.learning_rate * RATES[rung], layer_decay=decay)
