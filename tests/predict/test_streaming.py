"""What has come is worked on at once; what comes quickly is worked on together."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from megavit.predict.streaming import BatchStreamer


def numbers(count: int) -> Iterator[tuple[int, object]]:
    return ((i, i) for i in range(count))


def results(streamer: BatchStreamer, most: int) -> list[list[tuple[int, object]]]:
    found = []
    for batch in streamer.batches(most):
        found.append([(item, future.result()) for item, future in batch])
        for _ in batch:
            streamer.release()
    return found


def test_a_source_that_waits_for_its_answer_gets_it():
    answered = threading.Semaphore(0)

    def person() -> Iterator[tuple[int, object]]:
        for i in range(3):
            yield i, i
            assert answered.acquire(timeout=30)

    batches = []
    with BatchStreamer(person(), str, ahead=64, workers=2) as streamer:
        for batch in streamer.batches(32):
            batches.append([(item, future.result()) for item, future in batch])
            streamer.release()
            answered.release()
    assert batches == [[(0, "0")], [(1, "1")], [(2, "2")]]


def test_everything_comes_once_in_order_whatever_the_batches():
    with BatchStreamer(numbers(100), str, ahead=14, workers=3) as streamer:
        batches = results(streamer, 7)
    assert [pair for batch in batches for pair in batch] == [(i, str(i)) for i in range(100)]
    assert max(map(len, batches)) <= 7


def test_while_one_is_still_worked_on_the_batch_is_filled():
    go = threading.Event()

    def source() -> Iterator[tuple[int, object]]:
        yield from numbers(7)
        go.set()
        yield 7, 7

    with BatchStreamer(source(), lambda raw: go.wait(30) and raw, ahead=16, workers=1) as streamer:
        assert [len(batch) for batch in results(streamer, 8)] == [8]


def test_an_error_of_the_source_comes_after_what_came_before():
    def broken() -> Iterator[tuple[int, object]]:
        yield from numbers(2)
        raise RuntimeError("no more")

    found = []
    with BatchStreamer(broken(), str, ahead=16, workers=1) as streamer, pytest.raises(RuntimeError, match="no more"):
        for batch in streamer.batches(8):
            found += [item for item, _ in batch]
    assert found == [0, 1]


def test_results_that_wait_are_bounded_by_their_bytes_and_all_come():
    most, seen = 0, []
    with BatchStreamer(
        numbers(40), lambda _: np.zeros(1000, np.uint8), ahead=64, workers=2, max_bytes=3000
    ) as streamer:
        for batch in streamer.batches(32):
            most = max(most, len(batch))
            for item, future in batch:
                seen.append((item, future.result().nbytes))
                streamer.release()
    assert seen == [(i, 1000) for i in range(40)]
    assert most <= 3 + 2  # and one a worker
