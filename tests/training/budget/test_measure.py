from dataclasses import replace

import pytest
import torch

from megavit.training.budget import measure as module
from megavit.training.budget.measure import MAX_MEASURING_SECONDS, REPETITIONS, measure_step
from tests.helpers.training import batch_at, fresh_state, make_task


def with_precision(precision):
    task = make_task()
    return replace(task, recipe=replace(task.recipe, run=replace(task.recipe.run, precision=precision)))


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "auto"])
def test_measuring_leaves_the_run_as_it_was(precision):
    task = with_precision(precision)
    state = fresh_state(task)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    chosen, seconds = measure_step(state, task, batch_at(0))
    assert chosen in (("float32", "bfloat16") if precision == "auto" else (precision,)) and seconds > 0
    after = state.tensors()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert state.step == state.loss_steps == 0 and not any(
        group["lr"] == 0 for optimizer in state.optimizers for group in optimizer.param_groups
    )


def clocked(monkeypatch, seconds_of):
    """A clock that only steps move, each by what `seconds_of` says of its precision; the answer lists the steps."""
    now, steps = [0.0], []

    def step(_state, task, *_batch, rate, **_):
        assert rate == 0
        steps.append(task.recipe.run.precision)
        now[0] += seconds_of[steps[-1]]

    monkeypatch.setattr(module, "train_step", step)
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(module, "has_bfloat16", lambda _device: True)
    return steps


@pytest.mark.parametrize(("bfloat16", "chosen"), [(0.5, "bfloat16"), (0.95, "float32"), (2.0, "float32")])
def test_bfloat16_is_taken_only_where_it_is_clearly_faster(monkeypatch, bfloat16, chosen):
    seconds_of = {"float32": 1.0, "bfloat16": bfloat16}
    clocked(monkeypatch, seconds_of)
    task = with_precision("auto")
    precision, seconds = measure_step(fresh_state(task), task, batch_at(0))
    assert precision == chosen and seconds == pytest.approx(seconds_of[chosen])


def test_a_device_without_bfloat16_is_not_asked_for_it(monkeypatch):
    steps = clocked(monkeypatch, {"float32": 0.1})
    monkeypatch.setattr(module, "has_bfloat16", lambda _device: False)
    task = with_precision("auto")
    assert measure_step(fresh_state(task), task, batch_at(0))[0] == "float32"
    assert steps == ["float32"] * (REPETITIONS + 1)


def test_slow_steps_are_measured_once_after_warming_up(monkeypatch):
    steps = clocked(monkeypatch, {"float32": 2 * MAX_MEASURING_SECONDS})
    task = with_precision("float32")
    assert measure_step(fresh_state(task), task, batch_at(0)) == ("float32", 2 * MAX_MEASURING_SECONDS)
    assert len(steps) == 2
