"""A run that diverges goes back and on; one that was killed meanwhile comes to the same bits."""

import math
import shutil
from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from megavit.data.loader.sampler import ResumableBatchSampler
from megavit.errors import DivergedError, TrainingError
from megavit.evaluation.metrics.classification import ClassificationMetrics
from megavit.training.checkpoint.checkpoint import (
    get_step,
    list_checkpoints,
    list_rollback_checkpoints,
    save_checkpoint,
)
from megavit.training.clock import EpochBudget, StepProgress
from megavit.training.loop import loop
from megavit.training.loop.recovery import MAX_ROLLBACKS
from megavit.training.loop.step import MAX_SKIPPED_IN_A_ROW, train_step
from megavit.training.optim.loss import CrossEntropy
from megavit.training.progress import NullReporter
from megavit.training.run import train
from megavit.training.state import TrainState
from megavit.training.task import Batch, Task
from tests.helpers.spiking_run import (
    BACK,
    BATCH,
    BROKEN,
    CLASSES,
    COUNT,
    EVERY,
    MARGIN,
    PATIENCE,
    STEPS,
    make_dataset,
    make_loader,
    make_state,
    make_task,
    shorten_schedules,
    train_spiking,
)
from tests.helpers.training import read_validations


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_schedules(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TrainState:
    """A run that went back once, and that nobody stopped."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        shorten_schedules(monkeypatch)
        return train_spiking(tmp_path_factory.mktemp("whole"), {BROKEN: 30.0})[0]


def assert_same(one: TrainState, other: TrainState) -> None:
    """All but the seconds."""
    assert one.rollbacks == other.rollbacks >= 1
    assert one.tensors().keys() == other.tensors().keys()
    assert all(torch.equal(tensor, other.tensors()[name]) for name, tensor in one.tensors().items())
    numbers, others = one.numbers(), other.numbers()
    for found in (numbers, others):
        found["seconds"] = 0.0
        for record in found["history"]:
            record["seconds"] = 0.0
    assert numbers == others


def test_a_run_without_a_spike_never_goes_back(tmp_path):
    state, reporter, loader = train_spiking(tmp_path, {})
    assert (state.step, state.skipped, state.rollbacks, state.dropped_batches) == (
        STEPS,
        0,
        0,
        0,
    ) and reporter.said == []
    assert reporter.losses[-1] < 0.7 * reporter.losses[0]
    assert loader.trained() == list(ResumableBatchSampler(COUNT, BATCH, 0, start=0, steps=STEPS))


@pytest.mark.parametrize(("factor", "steps"), [(30.0, PATIENCE), (math.nan, MAX_SKIPPED_IN_A_ROW)])
def test_a_run_that_diverges_goes_back_and_leaves_out_the_images_that_led_there(tmp_path, factor, steps):
    state, reporter, loader = train_spiking(tmp_path, {BROKEN: factor})
    assert (state.step, state.rollbacks, state.rollback_step) == (STEPS, 1, BACK)
    assert state.dropped_batches == BROKEN + steps - BACK
    assert (
        f"steps after step {BROKEN}: rolling back to step {BACK} and continuing with other images" in reporter.said[-1]
    )
    assert max(reporter.losses[-20:]) < 0.7 * reporter.losses[0]
    # Every batch comes once, in order: those of the abandoned steps are not asked for again.
    order = ResumableBatchSampler(COUNT, BATCH, 0, start=0, steps=STEPS + state.dropped_batches)
    assert loader.trained() == list(order)
    reported = [record.step for record in state.history]
    assert reported == sorted(set(reported))
    assert [line["step"] for line in read_validations(tmp_path)] == reported


@pytest.mark.parametrize(
    "done",
    [
        BACK + 1,
        BROKEN + 5,
        BROKEN + PATIENCE + 3,
        *(pytest.param(step, marks=pytest.mark.drill) for step in (30, BROKEN - 1, BROKEN, 115)),
    ],
)
def test_a_run_that_is_stopped_before_or_after_it_goes_back_comes_to_the_same_bits(tmp_path, whole, done):
    stopped, *_ = train_spiking(tmp_path, {BROKEN: 30.0}, stop_at=done)
    assert stopped.step < STEPS
    again, *_ = train_spiking(tmp_path, {BROKEN: 30.0})
    assert_same(again, whole)


def test_a_run_that_is_killed_just_after_it_went_back_comes_to_the_same_bits(tmp_path, whole):
    # Nothing has been written since then, so that it will diverge once more.
    train_spiking(tmp_path, {BROKEN: 30.0}, stop_at=BROKEN - 1)
    for later in list_checkpoints(tmp_path / "checkpoints"):
        if get_step(later) > BACK:
            shutil.rmtree(later)
    again, *_ = train_spiking(tmp_path, {BROKEN: 30.0})
    assert_same(again, whole)


def test_how_often_checkpoints_are_written_changes_nothing(tmp_path):
    # The second comes so soon after the run went back that it goes back to the same step.
    broken: dict[int, float] = {BROKEN: 30.0, BROKEN + PATIENCE + 6: 30.0, BROKEN + 40: 30.0}
    seldom, *_ = train_spiking(tmp_path / "seldom", broken)
    often, *_ = train_spiking(tmp_path / "often", broken, seconds=1e-9)
    assert seldom.rollbacks == 3
    assert_same(often, seldom)


def test_where_it_diverges_again_and_again_the_run_ends_with_advice(tmp_path):
    with pytest.raises(TrainingError, match=f"even after {MAX_ROLLBACKS} rollbacks: a lower learning rate"):
        train_spiking(tmp_path, dict.fromkeys(range(BROKEN, 2000), 30.0))


def test_a_run_whose_loss_is_high_before_there_is_a_checkpoint_goes_on_as_it_is(tmp_path):
    state, reporter, loader = train_spiking(tmp_path, {EVERY + 4: 30.0})
    assert (state.step, state.rollbacks, state.dropped_batches) == (STEPS, 0, 0)
    assert f"steps after step {EVERY + 4}: continuing without a rollback" in reporter.said[-1]
    assert loader.trained() == list(ResumableBatchSampler(COUNT, BATCH, 0, start=0, steps=STEPS))


def test_a_run_that_is_no_number_before_there_is_a_checkpoint_ends_with_advice(tmp_path):
    with pytest.raises(
        TrainingError, match="no checkpoint is old enough to roll back to: a lower learning rate"
    ) as ending:
        train_spiking(tmp_path, {5: math.nan})
    assert not isinstance(ending.value, DivergedError)


class Clock(EpochBudget):
    """So many steps, and the seconds that were gone before each."""

    def __init__(self) -> None:
        super().__init__(STEPS)
        self.used: list[float] = []

    def next_step(self, step: int, progress: float, elapsed: float) -> StepProgress:
        self.used.append(elapsed)
        return super().next_step(step, progress, elapsed)


def test_the_time_of_the_abandoned_steps_is_not_given_back(tmp_path):
    clock = Clock()
    state, *_ = train_spiking(tmp_path, {BROKEN: 30.0}, budget=clock)
    assert state.rollbacks == 1 and clock.used == sorted(clock.used)
    assert [record.seconds for record in state.history] == sorted(record.seconds for record in state.history)


def test_a_wild_gradient_is_left_out_as_if_the_step_had_not_been():
    task, state = make_task(), make_state()
    loader = make_loader(make_dataset(), task)
    order = list(ResumableBatchSampler(COUNT, BATCH, 0, start=0, steps=42))

    def step(number: int, task: Task) -> float:
        (batch,) = loader.batches([order[number]])
        return train_step(state, task, batch, rate=1.0, steps=STEPS)

    assert all(math.isfinite(step(number, task)) for number in range(40))
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    assert math.isnan(step(40, replace(task, loss=CrossEntropy(weights=torch.full((CLASSES,), 1e9)))))
    assert (state.step, state.skipped, state.skipped_in_a_row) == (41, 1, 0)
    assert all(torch.equal(before[name], tensor) for name, tensor in state.tensors().items())
    assert math.isfinite(step(41, task)) and state.skipped == 1


def test_of_the_checkpoints_to_go_back_to_as_many_are_kept_as_may_be_needed(tmp_path):
    state = make_state()
    for step in range(1, 130):
        if step % EVERY and step % 7:
            continue
        state.step = step
        save_checkpoint(tmp_path, state)
        there = {get_step(one) for one in list_checkpoints(tmp_path)}
        for since in range(step - MARGIN, step + 1):
            newest = (since - MARGIN) // EVERY * EVERY
            assert newest <= 0 or newest in there, (step, since)
        assert len(there) <= 5
    assert [get_step(one) for one in list_rollback_checkpoints(tmp_path, 119)] == [100]


@pytest.mark.drill
def test_a_run_whose_learning_rate_jumps_once_goes_back_and_ends_with_a_model_that_has_learned(tmp_path, monkeypatch):
    class Told(NullReporter):
        lines: ClassVar[list[str]] = []

        def say(self, text: str) -> None:
            self.lines.append(text)

    def jumping(state: TrainState, task: Task, batch: Batch, rate: float, steps: int) -> float:
        jump = 1e4 if state.step + state.dropped_batches == BROKEN else 1.0
        return train_step(state, task, batch, rate * jump, steps)

    monkeypatch.setattr(loop, "train_step", jumping)
    changes = {"run": {"epochs": 6, "device": "cpu"}}
    done = train("demo:digits", tmp_path / "run", recipe="demo", overrides=changes, reporter=Told())
    (line,) = [line for line in Told.lines if "with other images" in line]
    assert f"rolling back to step {BACK}" in line
    assert isinstance(done.metrics, ClassificationMetrics) and done.metrics.accuracy.value > 0.8
    page = (done.folder / "report.html").read_text()
    assert "rollbacks" in page and "in attention" in page
    logged = read_validations(tmp_path / "run")
    assert all(0 < one["attention_logit"] < 100 and 0 < one["head_logit"] < 100 for one in logged)
