"""What is answered together, in which order, and what becomes of what is cancelled."""

import threading

from megavit.serve.desk import Desk, Job
from megavit.serve.settings import Options


def opened(desk: Desk, count: int) -> list[Job]:
    """Jobs that are ready to be answered."""
    jobs = [desk.open(i, Options(), b"x") for i in range(count)]
    for job in jobs:
        assert desk.begin(job)
        assert desk.prepared(job)
    return jobs


def test_what_is_there_is_taken_up_to_the_batch() -> None:
    desk = Desk(4, 100, 0.001)
    jobs = opened(desk, 6)
    assert desk.next().batch == jobs[:4]
    assert desk.next().batch == jobs[4:]


def test_there_is_no_waiting_for_a_second_image() -> None:
    desk = Desk(4, 100, 0.001)
    (job,) = opened(desk, 1)
    found = threading.Thread(target=lambda: desk.next())
    found.start()
    found.join(30)
    assert not found.is_alive()
    assert job.begun


def test_a_slow_model_gets_smaller_batches_and_always_one() -> None:
    desk = Desk(32, 2, 0.5)
    opened(desk, 10)
    assert len(desk.next().batch) == 4
    slow = Desk(32, 2, 50)
    opened(slow, 2)
    assert len(slow.next().batch) == 1


def test_an_explanation_is_made_after_each_batch() -> None:
    desk = Desk(2, 100, 0.001)
    jobs = opened(desk, 6)
    first = desk.next()
    assert (first.batch, first.explained) == (jobs[:2], None)
    assert all(map(desk.answered, first.batch))
    second = desk.next()
    assert (second.batch, second.explained) == (jobs[2:4], jobs[0])
    assert desk.next().explained == jobs[1]


def test_what_waits_can_be_cancelled_at_once_and_what_is_begun_not() -> None:
    desk = Desk(4, 100, 0.001)
    new = desk.open(7, Options(), b"x")
    assert desk.cancel(7) is new
    desk.close(new)
    assert not desk.begin(new)
    assert desk.cancel(7) is None
    begun = desk.open(8, Options(), b"x")
    assert desk.begin(begun)
    assert desk.cancel(8) is None
    assert not desk.prepared(begun)
    ready = opened(desk, 3)
    assert desk.cancel(1) is ready[1]
    assert desk.next().batch == [ready[0], ready[2]]
    assert desk.cancel(0) is None
    assert not desk.answered(ready[0])
    assert desk.answered(ready[2])
    assert desk.cancel(2) is ready[2]
    assert desk.next().explained is None
