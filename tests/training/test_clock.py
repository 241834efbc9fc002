"""The clock is simulated: a second passes when the test says so."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megavit.config.recipe import ScheduleRecipe
from megavit.errors import ConfigError
from megavit.training.clock import (
    LAST_STEPS,
    MAX_VALIDATIONS,
    OVERTIME_SHARE,
    EpochBudget,
    RunLength,
    StepProgress,
    TimeBudget,
    TimeBudgetPlan,
)
from megavit.training.optim.optimizer import learning_rate

PLAN = TimeBudgetPlan(total=100.0, step=0.1, validation=0.5, final_passes=4, finish=3.0)
DEADLINE = 95.0  # of training: 100 - 3 - 4 × 0.5


def simulate(budget, seconds_of, used=0.0, step=0, progress=0.0, until=1.0):
    """Steps that take `seconds_of(step, used)` each, to the progress `until`: the strides, and when each ended."""
    strides, ends = [], []
    while progress < until:
        stride = budget.next_step(step, progress, used)
        seconds = seconds_of(step, used)
        used, step, progress = used + seconds, step + 1, stride.after
        budget.record_step(seconds)
        strides.append(stride)
        ends.append(used)
    return strides, ends


def check_integer(strides):
    assert all(a.after == b.before for a, b in pairwise(strides)) and strides[-1].after == 1
    assert all(stride.before < stride.middle < stride.after for stride in strides)
    assert strides[-1].steps == len(strides)


@pytest.mark.parametrize(
    ("seconds_of", "slack"),
    [
        pytest.param(lambda step, used: 0.1, 0.1, id="as measured"),
        pytest.param(lambda step, used: 0.02, 0.1, id="five times faster than measured"),
        pytest.param(lambda step, used: 0.1 if used < 50 else 0.05, 0.1, id="faster from the middle on"),
        pytest.param(lambda step, used: 0.1 if step % 2 else 0.02, 0.2, id="every other step slow"),
        pytest.param(lambda step, used: 0.5 if step % 8 == 7 else 0.05, 0.6, id="waiting for images now and again"),
        pytest.param(lambda step, used: 30.0 if step == 300 else 0.1, 0.2, id="a stall of 30 s"),
        pytest.param(lambda step, used: 5.0 if 300 <= step < 302 else 0.1, 0.2, id="two stalls"),
        pytest.param(lambda step, used: 4.0 if step % 200 == 199 else 0.1, 4.0, id="a stall now and again"),
    ],
)
def test_training_ends_on_time_with_a_rate_near_zero(seconds_of, slack):
    strides, ends = simulate(TimeBudget(PLAN), seconds_of)
    check_integer(strides)
    assert ends[-1] == pytest.approx(DEADLINE, abs=slack)
    assert learning_rate(strides[-1].middle, 1.0, ScheduleRecipe(kind="linear")) < 0.03


def test_what_comes_after_training_gets_more_time_where_steps_have_become_slower():
    strides, ends = simulate(TimeBudget(PLAN), lambda step, used: 0.1 if used < 50 else 0.2)
    check_integer(strides)
    assert ends[-1] == pytest.approx(DEADLINE - PLAN.finish, abs=0.2) and strides[-1].middle > 0.99


def test_after_a_change_of_speed_the_rest_of_the_schedule_is_spread_over_the_rest_of_the_time():
    for seconds in (0.05, 0.2):
        strides, ends = simulate(TimeBudget(PLAN), lambda step, used, s=seconds: 0.1 if used < 50 else s)
        at = dict(zip([round(end, 1) for end in ends], strides, strict=True))
        assert at[50.0].after == pytest.approx(50 / DEADLINE, abs=0.01)
        assert at[72.0].after == pytest.approx(0.76, abs=0.03)


@pytest.mark.parametrize("seconds", [5.0, 10.0, 30.0])
def test_very_slow_steps_end_within_half_a_step_of_the_time(seconds):
    plan = replace(PLAN, step=seconds)
    strides, ends = simulate(TimeBudget(plan), lambda step, used: seconds)
    check_integer(strides)
    assert abs(ends[-1] - DEADLINE) <= seconds / 2
    advances = [stride.after - stride.before for stride in strides]
    assert max(advances) <= 1.5 * min(advances)


def test_steps_that_turn_out_twice_as_slow_as_the_ten_seconds_measured_end_within_a_step():
    plan = replace(PLAN, total=300.0, step=10.0)
    strides, ends = simulate(TimeBudget(plan), lambda step, used: 10.0 if used < 150 else 20.0)
    check_integer(strides)
    assert abs(ends[-1] - 295) <= 20 and strides[-1].middle > 0.9


def test_a_run_whose_time_is_up_before_it_begins_trains_a_few_steps_and_lowers_its_rate():
    strides, ends = simulate(TimeBudget(PLAN), lambda step, used: 0.01, used=200.0)
    check_integer(strides)
    assert 1 < len(strides) <= LAST_STEPS and ends[-1] - 200 <= OVERTIME_SHARE * PLAN.total
    slow, _ = simulate(TimeBudget(replace(PLAN, step=10.0)), lambda step, used: 10.0, used=200.0)
    assert len(slow) == 1 and slow[0].after == 1


def test_a_pause_longer_than_the_time_left_does_not_end_training_at_a_high_rate():
    strides, ends = simulate(TimeBudget(PLAN), lambda step, used: 500.0 if step == 400 else 0.1)
    check_integer(strides)
    assert strides[-1].middle > 0.95 and ends[-1] - ends[400] <= OVERTIME_SHARE * PLAN.total + 0.1


def test_what_was_used_before_a_stop_counts_and_the_pause_does_not():
    strides, ends = simulate(TimeBudget(PLAN), lambda step, used: 0.1, until=0.4)
    resumed, then = simulate(TimeBudget(PLAN), lambda step, used: 0.1, ends[-1] + 5, len(strides), strides[-1].after)
    assert then[-1] == pytest.approx(DEADLINE, abs=0.1)
    check_integer([*strides, *resumed])


def test_a_validation_that_takes_longer_leaves_less_time_to_train_and_is_done_less_often():
    budget = TimeBudget(PLAN)
    assert budget.min_validation_gap == pytest.approx(PLAN.validation / (0.05 * PLAN.total))
    budget.record_validation(2.0)
    assert budget.seconds_left(10.0) == 100 - 10 - 3 - 4 * 2.0
    assert budget.min_validation_gap == pytest.approx(0.4)
    budget.record_validation(0.01)
    assert budget.min_validation_gap == 1 / MAX_VALIDATIONS


@given(
    times=st.lists(st.floats(0.2, 20), min_size=1, max_size=50),
    step=st.floats(0.2, 20),
    used=st.floats(0, 200),
)
def test_whatever_the_clock_does_progress_rises_to_one_and_the_overrun_is_bounded(times, step, used):
    plan = replace(PLAN, step=step)
    strides, ends = simulate(TimeBudget(plan), lambda n, _: times[n % len(times)], used=used)
    check_integer(strides)
    before_last = ends[-2] if len(ends) > 1 else used
    # Where the time is already up, the last steps are as many as their usual time allows, however long they take then.
    last_steps = min(LAST_STEPS, OVERTIME_SHARE * plan.total / min(step, *times) + 1)
    assert before_last <= max(used, DEADLINE) + max(times) * (last_steps + 1)


@given(steps=st.integers(1, 500))
def test_by_epochs_progress_is_a_function_of_the_step(steps):
    budget = EpochBudget(steps)
    strides = [budget.next_step(step, 0.123, 1e9) for step in range(steps)]
    assert [stride.after for stride in strides] == [(step + 1) / steps for step in range(steps)]
    check_integer(strides)


@pytest.mark.parametrize(("steps", "time"), [(None, None), (3, PLAN)])
def test_a_run_has_either_steps_or_a_time(steps, time):
    with pytest.raises(ConfigError, match="either"):
        RunLength(steps=steps, time=time)


@pytest.mark.parametrize("change", [{"total": 0.0}, {"step": -1.0}, {"validation": -1.0}, {"finish": float("nan")}])
def test_a_time_that_cannot_be_is_refused_by_name(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        replace(PLAN, **change)


def validations(steps, steps_an_epoch, gap=1 / MAX_VALIDATIONS):
    """The steps after which a run validates."""
    budget, validated, found = EpochBudget(steps), 0.0, []
    for step in range(steps):
        stride = budget.next_step(step, 0, 0)
        if stride.is_validation_due(validated, gap, epoch_ended=(step + 1) % steps_an_epoch == 0):
            validated = stride.after
            found.append(step + 1)
    return found


@pytest.mark.parametrize(
    ("steps", "steps_an_epoch", "expected"),
    [
        (300, 3, list(range(15, 301, 15))),
        (100, 5, list(range(5, 101, 5))),
        (80, 8, list(range(8, 81, 8))),
        (80, 800, [20, 40, 60, 80]),
        (80, 40, [20, 40, 60, 80]),
        (120, 40, [30, 40, 70, 80, 110, 120]),
        (1, 1, [1]),
    ],
)
def test_validation_comes_after_epochs_or_quarters_but_twenty_times_at_most(steps, steps_an_epoch, expected):
    assert validations(steps, steps_an_epoch) == expected


def test_where_validation_is_slow_it_comes_at_the_end_only():
    assert validations(300, 3, gap=2.0) == [300]
    assert validations(300, 3, gap=0.5) == [150, 300]


def test_the_end_is_always_validated():
    assert StepProgress(0.99, 1.0, 100).is_validation_due(0.99, 1 / MAX_VALIDATIONS, epoch_ended=False)


def test_the_length_of_an_extension_counts_from_the_end_of_the_run_before():
    by_epochs = RunLength(steps=4, time=None, first_step=10).make_budget()
    strides = [by_epochs.next_step(step, 0, 0) for step in range(10, 14)]
    assert [(stride.after, stride.steps) for stride in strides] == [(0.25, 14), (0.5, 14), (0.75, 14), (1, 14)]
    by_time, later = (RunLength(steps=None, time=PLAN, first_second=second).make_budget() for second in (0, 100))
    assert isinstance(by_time, TimeBudget) and isinstance(later, TimeBudget)
    assert later.seconds_left(103) == by_time.seconds_left(3)
    assert later.next_step(7, 0.5, 103) == by_time.next_step(7, 0.5, 3)
