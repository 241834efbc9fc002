import copy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megavit.config.presets import preset
from megavit.config.recipe import ScheduleRecipe
from megavit.model.layers import BatchNorm
from megavit.model.vit import MegaVit
from megavit.training.optim.optimizer import learning_rate, make_optimizers, update_ema
from tests.helpers.training import fresh_state, make_task


def groups_of(**changes) -> list[tuple[str, dict]]:
    """Each group of the optimizers of a tiny model, with its optimizer's name and its parameters' names."""
    state = fresh_state(make_task())
    names = {id(parameter): name for name, parameter in state.model.named_parameters()}
    optimizers = make_optimizers(state.model, replace(make_task().recipe.optimizer, **changes))
    return [
        (type(optimizer).__name__, group | {"params": [names[id(p)] for p in group["params"]]})
        for optimizer in optimizers
        for group in optimizer.param_groups
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
        update_ema(average, model, length, step)
        assert average.weight.item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
@pytest.mark.parametrize("decay", [0.3, 0.75, 1.0])
def test_each_layer_has_its_share_of_the_rate_of_the_one_above(kind, decay):
    peaks = [
        {name: group["peak"] for _, group in groups_of(kind=kind, layer_decay=one) for name in group["params"]}
        for one in (1.0, decay)
    ]
    depth = fresh_state(make_task()).model.config.depth
    below = {"mlp_head": 0, "norm": 0, "patch_embedding": depth + 1, "positions": depth + 1}
    assert peaks[0].keys() == peaks[1].keys()
    for name, peak in peaks[0].items():
        parts = name.split(".")
        times = depth - int(parts[2]) if parts[0] == "transformer" else below[parts[0]]
        assert peaks[1][name] == pytest.approx(peak * decay**times)
    last = f"transformer.layers.{depth - 1}.norm.weight"
    assert peaks[1]["norm.weight"] * decay == pytest.approx(peaks[1][last])


def test_what_needs_no_gradient_has_no_optimizer():
    model = fresh_state(make_task()).model
    model.requires_grad_(False)
    model.mlp_head.requires_grad_(True)
    for kind in ("muon", "adamw"):
        optimizers = make_optimizers(model, replace(make_task().recipe.optimizer, kind=kind))
        found = [p for one in optimizers for group in one.param_groups for p in group["params"]]
        assert {id(p) for p in found} == {id(p) for p in model.mlp_head.parameters()}


def test_the_average_has_the_averaged_statistics_of_batch_norms():
    model = MegaVit.from_config(preset("hybrid-nano", num_classes=2, image_size=16))
    average = copy.deepcopy(model)
    model.train()(torch.randn(3, 3, 16, 16))
    update_ema(average, model, length=10, step=100)
    norm, averaged = model.norm, average.norm
    assert isinstance(norm, BatchNorm) and isinstance(averaged, BatchNorm)
    torch.testing.assert_close(averaged.mean, 0.1 * norm.mean)
    torch.testing.assert_close(averaged.variance, 0.9 + 0.1 * norm.variance)
