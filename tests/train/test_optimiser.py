from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.train.tiny import fresh_state, make_task

from megavit.config.recipe import ScheduleRecipe
from megavit.train.optimiser import learning_rate, make_optimiser, update_average


def test_only_the_weights_of_linear_layers_decay():
    state = fresh_state(make_task())
    optimiser = make_optimiser(state.model, make_task().recipe.optimiser)
    names = {id(parameter): name for name, parameter in state.model.named_parameters()}
    decayed, free = ([names[id(p)] for p in group["params"]] for group in optimiser.param_groups)
    assert optimiser.param_groups[0]["weight_decay"] > 0 == optimiser.param_groups[1]["weight_decay"]
    assert sorted(decayed + free) == sorted(names.values())
    assert "mlp_head.weight" in decayed and "positions.table" in free and "norm.weight" in free
    assert all(name.endswith("weight") and "norm" not in name for name in decayed)


@given(
    steps=st.integers(1, 1000),
    warmup=st.floats(0, 0.99),
    kind=st.sampled_from(["cosine", "linear"]),
)
def test_the_rate_rises_to_its_peak_and_falls_to_almost_nothing(steps, warmup, kind):
    rates = [learning_rate(step, steps, 1.0, ScheduleRecipe(kind=kind, warmup=warmup)) for step in range(steps)]
    top = rates.index(max(rates))
    assert min(rates) > 0 and max(rates) <= 1
    assert all(a < b for a, b in pairwise(rates[: top + 1]))
    assert all(a >= b for a, b in pairwise(rates[top:]))


def test_the_rate_without_warm_up_begins_at_its_peak_and_is_half_in_the_middle():
    for kind in ("cosine", "linear"):
        schedule = ScheduleRecipe(kind=kind, warmup=0)
        assert learning_rate(0, 10, 3e-3, schedule) == 3e-3
        assert learning_rate(5, 10, 3e-3, schedule) == pytest.approx(1.5e-3)


def test_the_average_is_over_its_length_and_forgets_its_first_steps_sooner():
    average, model = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    for length, step, expected in ((100, 1, 10 / 11), (100, 10_000, 0.01), (0, 10_000, 1.0)):
        torch.nn.init.zeros_(average.weight)
        torch.nn.init.ones_(model.weight)
        update_average(average, model, length, step)
        assert average.weight.item() == pytest.approx(expected)
