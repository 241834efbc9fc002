import math
from dataclasses import replace

import pytest

from megavit.config.recipe import OptimizerRecipe
from megavit.train.optim.lora import LEARNING_RATE_FACTORS, scale_learning_rate, unfreeze
from tests.helpers.bundles import make_model


@pytest.mark.parametrize("depth", [1, 2, 4, 5, 8])
def test_last_frees_the_last_quarter_of_the_layers_and_what_follows_them(depth):
    model = make_model(depth=depth, pool="map")
    unfreeze(model, "last", rank=1)
    free = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} - {"transformer"}
    assert free == {"norm", "pool", "mlp_head"}
    layers = [all(p.requires_grad for p in layer.parameters()) for layer in model.transformer.layers]
    assert layers == [False] * (depth - math.ceil(depth / 4)) + [True] * math.ceil(depth / 4)
    assert not any(
        p.requires_grad for layer in model.transformer.layers[: layers.index(True)] for p in layer.parameters()
    )


def test_all_frees_everything_even_what_was_frozen():
    model = make_model()
    model.requires_grad_(False)
    unfreeze(model, "all", rank=1)
    assert all(p.requires_grad for p in model.parameters())


def test_a_rungs_rate_follows_the_recipes_and_low_rank_additions_learn_alike_in_every_layer():
    recipe = OptimizerRecipe(learning_rate=2e-3, layer_decay=0.5)
    assert scale_learning_rate(recipe, "all") == replace(recipe, learning_rate=2e-3 * LEARNING_RATE_FACTORS["all"])
    lora = scale_learning_rate(recipe, "lora")
    assert lora.learning_rate == 2e-3 * LEARNING_RATE_FACTORS["lora"] and lora.layer_decay == 1
