import math
from dataclasses import replace

import pytest

from megavit.errors import OutputError
from megavit.training.checkpoint.checkpoint import list_checkpoints, load_checkpoint
from megavit.training.history import EpochRecord
from megavit.training.task import Task
from megavit.training.tracking.log import RunLog, append_line, read_log
from tests.helpers.training import (
    BATCH,
    STEPS,
    fit_task,
    fresh_state,
    make_context,
    make_setup,
    make_task,
    read_validations,
)


def make_logging_task(seconds: float) -> Task:
    task = make_task()
    return replace(task, recipe=replace(task.recipe, run=replace(task.recipe.run, log_seconds=seconds)))


def test_lines_about_steps_have_loss_rate_and_speed(tmp_path):
    task = make_logging_task(1e-9)
    fit_task(make_context(tmp_path), fresh_state(task), task)
    lines = [line for line in read_log(tmp_path / "log.jsonl") if line["event"] == "step"]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert all(0 < line["loss"] < 10 and line["images_per_second"] > 0 for line in lines)
    assert lines[-1]["learning_rate"] < lines[2]["learning_rate"]
    assert {line["mfu"] for line in lines} == {None}  # a CPU's peak is not known
    assert lines[3]["epoch"] == 1


def test_a_line_is_about_all_steps_since_the_one_before(tmp_path):
    now = [0.0]
    ctx, state, task = make_context(tmp_path), fresh_state(make_task()), make_logging_task(3.0)
    ctx = replace(ctx, clock=replace(ctx.clock, started=0.0, now=lambda: now[0]))
    log = RunLog(ctx, make_setup(ctx, state, task))
    for state.step, loss in enumerate((1.0, math.nan, 2.0, 9.0), 1):
        now[0] += 1
        log.step(state, loss, 0.5, 1e-3)
    (line,) = read_log(tmp_path / "log.jsonl")
    assert line["loss"] == 1.5 and line["images_per_second"] == BATCH / 0.5 and line["step"] == 3


def test_a_run_that_is_resumed_has_every_line_once(tmp_path):
    task = make_logging_task(1e-9)
    fit_task(make_context(tmp_path), fresh_state(task), task)
    whole = read_log(tmp_path / "log.jsonl")
    append_line(tmp_path / "log.jsonl", "step", {"step": STEPS + 5})  # of steps after the checkpoint
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"event": "step", "st')  # cut short by a kill
    resumed = fresh_state(task)
    load_checkpoint(tmp_path / "checkpoints", resumed)
    ctx = make_context(tmp_path)
    RunLog(ctx, make_setup(ctx, resumed, task))
    assert read_log(tmp_path / "log.jsonl") == whole
    assert (tmp_path / "log.jsonl").read_text().endswith("}\n")
    assert list_checkpoints(tmp_path / "checkpoints")


def test_validations_come_from_the_state_even_if_the_log_is_lost(tmp_path):
    task = make_task()
    state = fresh_state(task)
    fit_task(make_context(tmp_path), state, task)
    (tmp_path / "log.jsonl").unlink()
    state.extended_at = [STEPS]
    ctx = make_context(tmp_path)
    RunLog(ctx, make_setup(ctx, state, task))
    assert [EpochRecord(**{k: v for k, v in line.items() if k != "event"}) for line in read_validations(tmp_path)] == (
        state.history
    )
    assert read_log(tmp_path / "log.jsonl")[-1] == {"event": "extension", "step": STEPS}


def test_a_log_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    with pytest.raises(OutputError, match="the log could not be written"):
        append_line(tmp_path / "none" / "log.jsonl", "step", {"step": 1})
