"""Measure the peak memory of a training step."""

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

STEPS = 2  # the first creates the optimizer's state


def peak_memory(make: Callable[[], Callable[[], None]], device: torch.device) -> int:
    """Return the peak bytes of all tensors in the training step that `make` creates with its model and optimizer.

    Not on a Mac's GPU, of which PyTorch only tells what is in use now.
    """
    if device.type != "cpu":
        before = torch.accelerator.memory_allocated(device)
        torch.accelerator.reset_peak_memory_stats(device)
        _run(make)
        return torch.accelerator.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        _run(make)
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    changes = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = peak = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        alive += change.nbytes()  # pyrefly: ignore[missing-attribute] - not in its stub
        peak = max(peak, alive)
    return peak


def _run(make: Callable[[], Callable[[], None]]) -> None:
    step = make()
    for _ in range(STEPS):
        step()
