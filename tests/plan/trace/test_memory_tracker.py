"""The count of tensors that are alive."""

import torch
from torch import nn

from megavit.bench.memory import peak_memory
from megavit.plan.trace.memory_tracker import Lifetimes, resized

MIB = 2**20


def test_a_tensor_counts_while_something_holds_it() -> None:
    with Lifetimes() as lifetimes:
        one = torch.ones(MIB // 4)
        view = one[1:].view(-1)
        two = torch.ones(MIB // 4)
        assert lifetimes.alive == 2 * MIB
        del one
        assert lifetimes.alive == 2 * MIB  # the view holds it
        del view
        assert lifetimes.alive == MIB
        del two
    assert (lifetimes.alive, lifetimes.peak) == (0, 2 * MIB)


def test_a_storage_that_is_freed_by_resizing_is_free() -> None:
    before = torch.UntypedStorage.resize_
    lifetimes = Lifetimes()
    with resized(lifetimes), lifetimes:
        one = torch.ones(MIB // 4)
        one.untyped_storage().resize_(0)
        assert lifetimes.alive == 0
        one.untyped_storage().resize_(MIB)
        assert lifetimes.alive == MIB
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
    with Lifetimes() as lifetimes:
        step = make()
        step()
        step()
    assert abs(lifetimes.peak - measured) < 0.01 * measured
