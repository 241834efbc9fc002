"""However many processes train, and however they divide the work, they diverge, go back and go on together."""

from typing import Any

import pytest

from megavit.training.state import TrainState
from tests.helpers.distributed.dist_2proc import DIVERGING
from tests.helpers.spiking_run import BACK, BROKEN, PATIENCE, shorten_schedules, train_spiking


@pytest.fixture
def diverging(of_two: dict[str, Any]) -> dict[str, Any]:
    return of_two["diverging"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainState, list[float]]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        shorten_schedules(monkeypatch)
        state, watch, _ = train_spiking(tmp_path_factory.mktemp("alone"), {BROKEN: 30.0})
    return state, watch.losses


@pytest.mark.parametrize("layout", DIVERGING)
def test_two_processes_go_back_as_one_does(diverging, alone, layout):
    state, losses = alone
    numbers = diverging[f"{layout} numbers"]
    assert (numbers["rollbacks"], numbers["rollback_step"]) == (1, BACK)
    assert numbers["dropped_batches"] == state.dropped_batches == BROKEN + PATIENCE - BACK
    assert diverging[layout][:BROKEN] == pytest.approx(losses[:BROKEN], abs=1e-3)
    assert diverging[layout][BROKEN + PATIENCE - 1 :] == pytest.approx(losses[BROKEN + PATIENCE - 1 :], abs=1e-3)


def test_two_processes_that_are_stopped_meanwhile_come_to_the_same_bits(diverging):
    assert diverging["same"]


@pytest.mark.parametrize("layout", DIVERGING)
def test_two_processes_see_the_largest_logits_that_one_does(diverging, alone, layout):
    for one, other in zip(alone[0].history, diverging[f"{layout} numbers"]["history"], strict=True):
        assert other["attention_logit"] == pytest.approx(one.attention_logit, rel=1e-4)
        assert other["head_logit"] == pytest.approx(one.head_logit, rel=1e-4)
