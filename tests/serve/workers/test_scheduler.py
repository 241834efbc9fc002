"""What is answered together, in which order, and what becomes of what is cancelled."""

import threading

from megavit.serve.settings import Options
from megavit.serve.workers.scheduler import MAX_HELD_BYTES, BatchScheduler, Job


def opened(desk: BatchScheduler, count: int, size: int = 0) -> list[Job]:
    """Jobs that are ready to be answered."""
    jobs = [desk.open(i, Options(), b"x") for i in range(count)]
    for job in jobs:
        assert desk.begin(job)
        assert desk.prepared(job, size)
    return jobs


def test_what_is_there_is_taken_up_to_the_batch() -> None:
    desk = BatchScheduler(4, 100, 0.001)
    jobs = opened(desk, 6)
    assert desk.next().batch == jobs[:4]
    assert desk.next().batch == jobs[4:]


def test_there_is_no_waiting_for_a_second_image() -> None:
    desk = BatchScheduler(4, 100, 0.001)
    (job,) = opened(desk, 1)
    found = threading.Thread(target=lambda: desk.next())
    found.start()
    found.join(30)
    assert not found.is_alive()
    assert job.begun


def test_a_slow_model_gets_smaller_batches_and_always_one() -> None:
    desk = BatchScheduler(32, 2, 0.5)
    opened(desk, 10)
    assert len(desk.next().batch) == 4
    slow = BatchScheduler(32, 2, 50)
    opened(slow, 2)
    assert len(slow.next().batch) == 1


def test_an_explanation_is_made_after_each_batch() -> None:
    desk = BatchScheduler(2, 100, 0.001)
    jobs = opened(desk, 6)
    first = desk.next()
    assert (first.batch, first.explained) == (jobs[:2], None)
    assert all(map(desk.answered, first.batch))
    second = desk.next()
    assert (second.batch, second.explained) == (jobs[2:4], jobs[0])
    assert desk.next().explained == jobs[1]


def test_what_waits_can_be_cancelled_at_once_and_what_is_begun_not() -> None:
    desk = BatchScheduler(4, 100, 0.001)
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


def test_large_pictures_go_in_smaller_batches_and_one_always() -> None:
    desk = BatchScheduler(8, 100, 0.001, batch_bytes=100)
    jobs = opened(desk, 4, size=40)
    assert desk.next().batch == jobs[:2]
    assert desk.next().batch == jobs[2:]
    alone = BatchScheduler(8, 100, 0.001, batch_bytes=10)
    jobs = opened(alone, 2, size=40)
    assert [alone.next().batch, alone.next().batch] == [jobs[:1], jobs[1:]]


def test_pictures_wait_to_be_put_there_until_those_before_are_answered_or_they_are_cancelled() -> None:
    desk = BatchScheduler(8, 100, 0.001)
    (first,) = opened(desk, 1, size=MAX_HELD_BYTES)  # one alone is taken whatever its size
    late = [desk.open(id, Options(), b"x") for id in (7, 8)]
    assert all(map(desk.begin, late))
    found: list[bool] = []
    threads = [threading.Thread(target=lambda job=job: found.append(desk.prepared(job, 1))) for job in late]
    for thread in threads:
        thread.start()
    assert desk.next().batch == [first]  # which holds its picture until it is closed
    threads[0].join(0.2)
    assert found == []
    assert desk.cancel(7) is None
    threads[0].join(30)
    assert found == [False]
    desk.close(late[0])
    desk.close(first)
    threads[1].join(30)
    assert found == [False, True]
    assert desk.next().batch == [late[1]]
