"""Batches are read ahead for a device that copies from pinned memory, in their order, and for no other."""

import threading

import pytest
import torch

from megavit.training.loop import prefetch as module
from megavit.training.loop.prefetch import prefetch
from tests.helpers.waiting import wait_until


class Source:
    """A generator of batches that notes which were asked for, in which threads, and that it was closed."""

    def __init__(self, count=5, error=None):
        self.asked, self.threads, self.closed, self.count, self.error = [], set(), False, count, error

    def batches(self):
        try:
            for number in range(self.count):
                self.asked.append(number)
                self.threads.add(threading.current_thread())
                if number == self.error:
                    raise ValueError("damaged")
                yield torch.full((2, 1, 2, 2), number, dtype=torch.uint8), torch.tensor([number, number])
        finally:
            self.closed = True


@pytest.fixture
def pinned(monkeypatch):
    monkeypatch.setattr(module, "copies_ahead", lambda device: True)
    found = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: found.append(tensor) or tensor)
    return found


def test_the_next_batch_is_read_while_one_is_used(pinned):
    source = Source()
    reader = prefetch(source.batches(), torch.device("cuda"))
    next(reader)
    wait_until(lambda: source.asked == [0, 1])
    assert [int(labels[0]) for _, labels in reader] == [1, 2, 3, 4]
    assert threading.current_thread() not in source.threads
    assert len(pinned) == 10 and source.closed


def test_images_of_different_sizes_are_pinned_each(pinned):
    batches = ((([torch.zeros(1, 2, 2), torch.zeros(1, 4, 2)]), torch.zeros(2)) for _ in range(1))
    ((images, _),) = prefetch(batches, torch.device("cuda"))
    assert [image.shape[1] for image in images] == [2, 4] and len(pinned) == 3


def test_a_cpu_reads_a_batch_when_it_is_due():
    source = Source()
    reader = prefetch(source.batches(), torch.device("cpu"))
    next(reader)
    assert source.asked == [0] and source.threads == {threading.current_thread()}
    reader.close()
    assert source.closed


def test_errors_come_where_the_batch_is_due_and_a_stop_ends_the_thread(pinned):
    reader = prefetch(Source(error=1).batches(), torch.device("cuda"))
    next(reader)
    with pytest.raises(ValueError, match="damaged"):
        next(reader)
    source, before = Source(), threading.active_count()
    reader = prefetch(source.batches(), torch.device("cuda"))
    next(reader)
    reader.close()
    assert source.closed and threading.active_count() == before
