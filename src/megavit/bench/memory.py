"""The memory of a contender's training step, at its peak."""

import resource
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import torch

from megavit.config.vit import ViTConfig

STEPS = 3


def peak_memory(name: str, config: ViTConfig, batch: int, device: torch.device) -> int:
    """Bytes that `STEPS` steps add to a process's memory at its peak, in a fresh process.

    On a GPU, bytes that PyTorch took there.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_peak, name, config, batch, str(device), torch.get_num_threads()).result()


def _peak(name: str, config: ViTConfig, batch: int, device: str, threads: int) -> int:
    from megavit.bench.training import builders_of, step_of

    torch.set_num_threads(threads)
    build = builders_of(config)[name]
    # The library's own code, and what PyTorch takes at its first step, are no part of the answer.
    small = torch.randn(1, config.channels, *config.image_hw, device=device)
    step_of(build(replace(config, depth=1)).to(device), small, torch.zeros(1, dtype=torch.int64, device=device))()
    before = _taken()
    model = build(config).to(device)
    images = torch.randn(batch, config.channels, *config.image_hw, device=device)
    step = step_of(model, images, torch.arange(batch, device=device) % config.num_classes)
    for _ in range(STEPS):
        step()
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device)
    return _taken() - before


def _taken() -> int:
    """Bytes of this process's peak so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
