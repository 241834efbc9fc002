"""How requests are batched, in which order, and what happens to canceled ones."""

import threading

from megavit.serving.settings import PredictOptions
from megavit.serving.workers.scheduler import MAX_HELD_BYTES, BatchScheduler, Request


def make_requests(scheduler: BatchScheduler, count: int, size: int = 0) -> list[Request]:
    """Requests that are ready to be predicted."""
    requests = [scheduler.add(i, PredictOptions(), b"x") for i in range(count)]
    for request in requests:
        assert scheduler.start(request)
        assert scheduler.enqueue(request, size)
    return requests


def test_a_batch_takes_what_is_ready_up_to_its_maximum_size() -> None:
    scheduler = BatchScheduler(4, 100, 0.001)
    requests = make_requests(scheduler, 6)
    assert scheduler.next_batch().requests == requests[:4]
    assert scheduler.next_batch().requests == requests[4:]


def test_a_batch_does_not_wait_for_a_second_image() -> None:
    scheduler = BatchScheduler(4, 100, 0.001)
    (request,) = make_requests(scheduler, 1)
    found = threading.Thread(target=lambda: scheduler.next_batch())
    found.start()
    found.join(30)
    assert not found.is_alive()
    assert request.started


def test_a_slow_model_gets_smaller_batches_and_always_one() -> None:
    scheduler = BatchScheduler(32, 2, 0.5)
    make_requests(scheduler, 10)
    assert len(scheduler.next_batch().requests) == 4
    slow = BatchScheduler(32, 2, 50)
    make_requests(slow, 2)
    assert len(slow.next_batch().requests) == 1


def test_an_explanation_is_made_after_each_batch() -> None:
    scheduler = BatchScheduler(2, 100, 0.001)
    requests = make_requests(scheduler, 6)
    first = scheduler.next_batch()
    assert (first.requests, first.explain) == (requests[:2], None)
    assert all(map(scheduler.enqueue_explanation, first.requests))
    second = scheduler.next_batch()
    assert (second.requests, second.explain) == (requests[2:4], requests[0])
    assert scheduler.next_batch().explain == requests[1]


def test_waiting_requests_are_canceled_at_once_and_started_ones_by_their_thread() -> None:
    scheduler = BatchScheduler(4, 100, 0.001)
    new = scheduler.add(7, PredictOptions(), b"x")
    assert scheduler.cancel(7) is new
    scheduler.remove([new])
    assert not scheduler.start(new)
    assert scheduler.cancel(7) is None
    started = scheduler.add(8, PredictOptions(), b"x")
    assert scheduler.start(started)
    assert scheduler.cancel(8) is None
    assert not scheduler.enqueue(started)
    ready = make_requests(scheduler, 3)
    assert scheduler.cancel(1) is ready[1]
    assert scheduler.next_batch().requests == [ready[0], ready[2]]
    assert scheduler.cancel(0) is None
    assert not scheduler.enqueue_explanation(ready[0])
    assert scheduler.enqueue_explanation(ready[2])
    assert scheduler.cancel(2) is ready[2]
    assert scheduler.next_batch().explain is None


def test_large_images_make_smaller_batches_of_at_least_one() -> None:
    scheduler = BatchScheduler(8, 100, 0.001, max_bytes=100)
    requests = make_requests(scheduler, 4, size=40)
    assert scheduler.next_batch().requests == requests[:2]
    assert scheduler.next_batch().requests == requests[2:]
    alone = BatchScheduler(8, 100, 0.001, max_bytes=10)
    requests = make_requests(alone, 2, size=40)
    assert [alone.next_batch().requests, alone.next_batch().requests] == [requests[:1], requests[1:]]


def test_preprocessed_images_wait_for_memory_until_earlier_ones_are_done_or_they_are_canceled() -> None:
    scheduler = BatchScheduler(8, 100, 0.001)
    (first,) = make_requests(scheduler, 1, size=MAX_HELD_BYTES)  # a single one is taken whatever its size
    late = [scheduler.add(id, PredictOptions(), b"x") for id in (7, 8)]
    assert all(map(scheduler.start, late))
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda request=request: found.append(scheduler.enqueue(request, 1))) for request in late
    ]
    for thread in threads:
        thread.start()
    assert scheduler.next_batch().requests == [first]  # which holds its image until it is removed
    threads[0].join(0.2)
    assert found == []
    assert scheduler.cancel(7) is None
    threads[0].join(30)
    assert found == [False]
    scheduler.remove([late[0]])
    scheduler.remove([first])
    threads[1].join(30)
    assert found == [False, True]
    assert scheduler.next_batch().requests == [late[1]]
