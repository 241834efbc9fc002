from dataclasses import replace

from megavit.training.history import EpochRecord
from megavit.training.report.finalize import describe_environment
from tests.helpers.training import fresh_state, make_task

RECORD = EpochRecord(epoch=1, step=4, seconds=1, train_loss=1, val_loss=1, val_metric=0.5, learning_rate=1e-3)


def test_the_report_tells_the_largest_logits_of_the_run_and_that_it_went_back():
    task, state = make_task(), fresh_state(make_task())
    state.skipped, state.rollbacks = 2, 1
    state.record(replace(RECORD, attention_logit=12.34, head_logit=3.0))
    state.record(replace(RECORD, attention_logit=None, head_logit=4.56))
    reported = dict(describe_environment(state, task))
    assert reported["largest logits"] == "12.3 in attention, 4.56 of the head"
    assert (reported["skipped steps"], reported["rollbacks"]) == ("2", "1")


def test_the_report_of_a_run_that_was_not_watched_or_did_not_go_back_says_nothing_of_it():
    task, state = make_task(), fresh_state(make_task())
    state.record(RECORD)
    reported = dict(describe_environment(state, task))
    assert "largest logits" not in reported and "rollbacks" not in reported
