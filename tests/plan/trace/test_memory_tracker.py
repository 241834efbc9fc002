"""The count of tensors that are alive."""

import torch
from torch import nn

from megavit.bench.memory import peak_memory
from megavit.plan.trace.memory_tracker import MemoryTracker, track_resizes

MIB = 2**20


def test_a_tensor_counts_while_something_holds_it() -> None:
    with MemoryTracker() as tracker:
        one = torch.ones(MIB // 4)
        view = one[1:].view(-1)
        two = torch.ones(MIB // 4)
        assert tracker.alive == 2 * MIB
        del one
        assert tracker.alive == 2 * MIB  # the view holds it
        del view
        assert tracker.alive == MIB
        del two
    assert (tracker.alive, tracker.peak) == (0, 2 * MIB)


def test_a_storage_that_is_freed_by_resizing_is_free() -> None:
    before = torch.UntypedStorage.resize_
    tracker = MemoryTracker()
    with track_resizes(tracker), tracker:
        one = torch.ones(MIB // 4)
        one.untyped_storage().resize_(0)
        assert tracker.alive == 0
        one.untyped_storage().resize_(MIB)
        assert tracker.alive == MIB
    assert torch.UntypedStorage.resize_ is before


def test_it_agrees_with_the_profiler_on_a_real_step() -> None:
    def make():
        model = nn.Sequential(nn.Linear(256, 1024), nn.GELU(), nn.Linear(1024, 256))
        images = torch.randn(512, 256)

        def step() -> None:
            model.zero_grad()
            model(images).square().mean().backward()

        return step

    measured = peak_memory(make, torch.device("cpu"))
    with MemoryTracker() as tracker:
        step = make()
        step()
        step()
    assert abs(tracker.peak - measured) < 0.01 * measured
