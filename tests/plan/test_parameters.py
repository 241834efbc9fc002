"""How parameters lie on GPUs."""

from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.config.presets import PRESETS, preset
from megavit.config.recipe import OptimizerRecipe
from megavit.model.statistics import parameter_count
from megavit.model.vit import MegaVit
from megavit.plan.parameters import find_padded_parameters, shard_parameters
from megavit.training.optim.muon import Muon
from megavit.training.optim.optimizer import make_optimizers
from tests.helpers.plan_layouts import PARALLEL

NAMES = st.sampled_from(sorted(PRESETS))


@given(NAMES)
def test_one_gpu_holds_the_whole_model(name: str) -> None:
    weights = shard_parameters(preset(name), 1, 1)
    assert weights.per_rank == weights.total == weights.padded == parameter_count(preset(name))


@given(NAMES, st.integers(1, 2048))
def test_the_parts_together_are_the_padded_whole_and_no_less_than_the_model(name: str, shard: int) -> None:
    weights = shard_parameters(preset(name), shard, 1)
    assert weights.per_rank * shard == weights.padded >= weights.total == parameter_count(preset(name))


@given(NAMES, st.integers(1, 1024), st.integers(2, 4))
def test_more_shards_never_hold_more(name: str, shard: int, factor: int) -> None:
    assert (
        shard_parameters(preset(name), shard * factor, 1).per_rank <= shard_parameters(preset(name), shard, 1).per_rank
    )


def test_tensor_ranks_divide_the_matrices_of_a_layer_and_repeat_the_rest() -> None:
    whole, half = shard_parameters(PARALLEL, 1, 1).block, shard_parameters(PARALLEL, 1, 2).block
    dim, inner = PARALLEL.dim, PARALLEL.heads * PARALLEL.dim_head
    # The norms, and the biases of the two projections back to the stream.
    repeated = dim + 2 * PARALLEL.dim_head + 2 * dim
    assert 2 * (half.total - repeated) == whole.total - repeated
    assert half.matrices * 2 == whole.matrices and half.largest == whole.largest == 3 * inner * dim


def test_a_parameter_with_fewer_rows_than_ranks_is_named() -> None:
    named = find_padded_parameters(preset("22B"), 1024, 1)
    assert named["positions.table"] == 1024 / 256
    assert named["transformer.layers.*.attention.query_norm.weight"] == 1024 / 128
    assert "mlp_head.weight" not in named  # 1,000 rows on 1,024 ranks
    assert find_padded_parameters(preset("22B"), 128, 1) == {}


@pytest.mark.parametrize("kind", ["muon", "adamw"])
@pytest.mark.parametrize("name", ["nano", "Ti"])
def test_the_optimizer_steps_the_matrices_that_are_counted(name: str, kind: str) -> None:
    with torch.device("meta"):
        model = MegaVit.from_config(preset(name))
    optimizers = make_optimizers(model, OptimizerRecipe(kind=kind))  # pyrefly: ignore[bad-argument-type]
    stepped = sum(
        prod(p.shape)
        for one in optimizers
        if isinstance(one, Muon)
        for group in one.param_groups
        for p in group["params"]
    )
    assert stepped == (shard_parameters(preset(name), 1, 1).matrices if kind == "muon" else 0)
