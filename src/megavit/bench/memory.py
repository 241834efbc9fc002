"""The memory of a contender's training step, at its peak."""

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

# In the first, the optimizer's state is made.
STEPS = 2


def peak_memory(make: Callable[[], Callable[[], None]], device: torch.device) -> int:
    """Bytes of all tensors alive at once, at most: model, gradients, optimizer, and what the step keeps.

    Args:
        make: makes the model, its optimizer and all else, and gives the step.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        _run(make)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        _run(make)
    assert recorded.profiler is not None and recorded.profiler.kineto_results is not None
    changes = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = peak = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        alive += change.nbytes()  # pyrefly: ignore[missing-attribute] - not in its stub
        peak = max(peak, alive)
    return peak


def _run(make: Callable[[], Callable[[], None]]) -> None:
    step = make()
    for _ in range(STEPS):
        step()
