"""Prepare the next batch for a GPU while it computes the current one."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import torch

from megavit.runtime.device import copies_ahead

if TYPE_CHECKING:
    from megavit.training.task import Batch


def prefetch(batches: Generator["Batch"], device: torch.device) -> Generator["Batch"]:
    """Yield the batches, for a GPU from pinned memory, with the next one prepared by a thread in the meantime."""
    with closing(batches):
        if not copies_ahead(device):
            yield from batches
            return
        with ThreadPoolExecutor(1, "prefetch") as thread:
            upcoming = thread.submit(_next_pinned, batches)
            while (batch := upcoming.result()) is not None:
                upcoming = thread.submit(_next_pinned, batches)
                yield batch


def _next_pinned(batches: Iterator["Batch"]) -> "Batch | None":
    for images, labels in batches:
        pinned = [image.pin_memory() for image in images] if isinstance(images, list) else images.pin_memory()
        return pinned, labels.pin_memory()
    return None
