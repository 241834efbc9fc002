from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.config.recipe import ScheduleRecipe
from megavit.train.optimiser import learning_rate, make_optimisers, update_average
from tests.train.tiny import fresh_state, make_task


def groups_of(**changes) -> list[tuple[str, dict]]:
    """Each group of the optimisers of a tiny model, with its optimiser's name and its parameters' names."""
    state = fresh_state(make_task())
    names = {id(parameter): name for name, parameter in state.model.named_parameters()}
    optimisers = make_optimisers(state.model, replace(make_task().recipe.optimiser, **changes))
    return [
        (type(optimiser).__name__, group | {"params": [names[id(p)] for p in group["params"]]})
        for optimiser in optimisers
        for group in optimiser.param_groups
    ]


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_every_parameter_is_in_one_group_and_only_weights_of_linear_layers_decay(kind):
    groups = [group for _, group in groups_of(kind=kind)]
    decayed = [name for group in groups if group["weight_decay"] > 0 for name in group["params"]]
    free = [name for group in groups if group["weight_decay"] == 0 for name in group["params"]]
    assert sorted(decayed + free) == sorted(name for name, _ in fresh_state(make_task()).model.named_parameters())
    assert "mlp_head.weight" in decayed and "positions.table" in free and "norm.weight" in free
    assert all(name.endswith("weight") and "norm" not in name for name in decayed)


def test_muon_has_the_matrices_within_the_layers_and_nothing_else():
    groups = groups_of(kind="muon")
    matrices = [name for kind, group in groups if kind == "Muon" for name in group["params"]]
    assert len(matrices) == 4 * 4
    assert all(name.startswith("transformer.layers") and name.endswith("weight") for name in matrices)
    (threefold,) = [group["params"] for _, group in groups if group.get("parts") == 3]
    assert len(threefold) == 4 and all("to_qkv" in name for name in threefold)
    assert {kind for kind, _ in groups_of(kind="adamw")} == {"AdamW"}


def test_adamw_moves_a_matrix_less_the_wider_its_input_is_and_the_embedding_at_the_full_rate():
    peaks = {
        name: group["peak"] for _, group in groups_of(kind="adamw", learning_rate=0.01) for name in group["params"]
    }
    assert peaks["patch_embedding.projection.weight"] == peaks["norm.weight"] == 0.01
    assert peaks["transformer.layers.0.attention.to_qkv.weight"] == 0.01 * 128 / 64
    assert peaks["transformer.layers.0.mlp.out.weight"] == pytest.approx(0.01 * 128 / 192)


shares = st.floats(0, 0.99)
kinds = st.sampled_from(["cosine", "linear"])


@given(steps=st.integers(1, 1000), kind=kinds, warmup=shares, hold=shares)
def test_the_rate_rises_to_its_peak_and_falls_to_nothing(steps, kind, warmup, hold):
    schedule = ScheduleRecipe(kind=kind, warmup=warmup, hold=hold)
    rates = [learning_rate(step / steps, 1.0, schedule) for step in range(steps + 1)]
    top = rates.index(max(rates))
    assert all(0 <= rate <= 1 for rate in rates) and rates[-1] == pytest.approx(0, abs=1e-9)
    assert all(a < b for a, b in pairwise(rates[: top + 1]))
    assert all(a >= b for a, b in pairwise(rates[top:]))


@given(kind=kinds, warmup=shares, hold=shares, at=st.floats(0, 1))
def test_the_rate_is_at_its_peak_from_the_warm_up_to_the_end_of_the_hold(kind, warmup, hold, at):
    schedule = ScheduleRecipe(kind=kind, warmup=warmup, hold=hold)
    assert learning_rate(warmup + at * hold * (1 - warmup), 3e-3, schedule) == pytest.approx(3e-3)
    assert warmup < 1e-9 or learning_rate(warmup / 2, 3e-3, schedule) == pytest.approx(1.5e-3)


def test_the_rate_is_half_in_the_middle_of_its_way_down():
    for kind in ("cosine", "linear"):
        assert learning_rate(0.5, 3e-3, ScheduleRecipe(kind=kind, warmup=0)) == pytest.approx(1.5e-3)
        held = ScheduleRecipe(kind=kind, warmup=0.2, hold=0.5)  # down from 0.6 on
        assert learning_rate(0.8, 3e-3, held) == pytest.approx(1.5e-3)


def test_the_average_is_over_its_length_and_forgets_its_first_steps_sooner():
    average, model = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    for length, step, expected in ((100, 1, 10 / 11), (100, 10_000, 0.01), (0, 10_000, 1.0)):
        torch.nn.init.zeros_(average.weight)
        torch.nn.init.ones_(model.weight)
        update_average(average, model, length, step)
        assert average.weight.item() == pytest.approx(expected)
