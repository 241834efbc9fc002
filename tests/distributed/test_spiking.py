"""However many processes train, and however they divide the work, they diverge, go back and go on together."""

import json
from pathlib import Path
from typing import Any

import pytest

from megavit.train.state import TrainState
from tests.helpers.distributed.dist_2proc import LAYOUTS
from tests.helpers.distributed.torchrun import torchrun
from tests.helpers.shared_folder import BuildOnce
from tests.helpers.spiking_run import BACK, BROKEN, PATIENCE, shorten_schedules, train_spiking


@pytest.fixture(scope="module")
def of_two(build_once: BuildOnce) -> dict[str, Any]:
    def fill(folder: Path) -> None:
        torchrun(2, "tests.helpers.distributed.spiking_2proc", folder)

    return json.loads((build_once("spiking", fill) / "answer.json").read_text())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainState, list[float]]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        shorten_schedules(monkeypatch)
        state, watch, _ = train_spiking(tmp_path_factory.mktemp("alone"), {BROKEN: 30.0})
    return state, watch.losses


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_processes_go_back_as_one_does(of_two, alone, layout):
    state, losses = alone
    numbers = of_two[f"{layout} numbers"]
    assert (numbers["rollbacks"], numbers["rollback_step"]) == (1, BACK)
    assert numbers["dropped_batches"] == state.dropped_batches == BROKEN + PATIENCE - BACK
    assert of_two[layout][:BROKEN] == pytest.approx(losses[:BROKEN], abs=1e-3)
    assert of_two[layout][BROKEN + PATIENCE - 1 :] == pytest.approx(losses[BROKEN + PATIENCE - 1 :], abs=1e-3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_processes_that_are_stopped_meanwhile_come_to_the_same_bits(of_two, layout):
    assert of_two[f"{layout} same"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_processes_see_the_largest_logits_that_one_does(of_two, alone, layout):
    for one, other in zip(alone[0].history, of_two[f"{layout} numbers"]["history"], strict=True):
        assert other["attention_logit"] == pytest.approx(one.attention_logit, rel=1e-4)
        assert other["head_logit"] == pytest.approx(one.head_logit, rel=1e-4)
