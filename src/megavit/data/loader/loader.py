"""Load batches of images, decoded by worker processes a few batches ahead."""

import math
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from megavit.data.byte_range import MAX_CONCURRENT_REQUESTS, is_url
from megavit.data.dataset import Skipped
from megavit.data.image_dataset import ImageDataset, Images
from megavit.errors import DataError
from megavit.runtime.device import pins_memory
from megavit.runtime.signals import ignore_stop_signals


def iter_batches(dataset: ImageDataset, order: Iterable[list[int]], workers: int) -> Iterator[Images]:
    """Yield the uint8 batches of an order, decoded by `workers` processes, or by this one if 0.

    Images in memory are decoded by this process where others would need a copy of all of them.

    Batches are in pinned memory if there is a GPU that copies faster from it.
    `order` is consumed a few batches ahead.

    Raises:
        DataError: as for `ImageDataset`, or if a worker died.
    """
    loader = DataLoader(
        LoaderDataset(dataset),
        batch_sampler=order,
        collate_fn=partial(collate, pack if dataset.preprocessing.keep_aspect else stack),
        num_workers=0 if dataset.images.memory and not _has_fork() else workers,
        worker_init_fn=ignore_interrupts,
        pin_memory=pins_memory(),
    )
    try:
        for batch, damaged in loader:
            if isinstance(batch, str):
                raise DataError(batch)
            dataset.damaged.update(damaged)
            yield batch if isinstance(batch, Tensor) else unpack(*batch)
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise DataError(
            "a process that reads images has died, probably because the system ran out of memory: close other "
            "programs or make the images smaller"
        ) from error


def _has_fork() -> bool:
    """Return whether a worker shares the memory of this process, instead of receiving a copy."""
    return multiprocessing.get_context().get_start_method() == "fork"


def sequential_batches(count: int, batch_size: int) -> list[list[int]]:
    """Return batches of the indices 0 to `count` - 1 in order."""
    indices = list(range(count))
    return [indices[start : start + batch_size] for start in range(0, count, batch_size)]


class LoaderDataset(Dataset[tuple[Tensor | str, Skipped | None]]):
    """A dataset of images, or error messages instead of tracebacks, each with the damaged image it replaces or None."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> tuple[Tensor | str, Skipped | None]:
        try:
            return self.dataset.read(index)
        except DataError as error:
            return str(error), None

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor | str, Skipped | None]]:
        """Read a batch, with concurrent requests if the images are in a remote store."""
        first = self.dataset.samples[indices[0]].location if indices else None
        if first is None or not is_url(first.file):
            return [self[index] for index in indices]
        with ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS) as pool:
            return list(pool.map(self.__getitem__, indices))


def collate(
    join: Callable[[list[Tensor | str]], Any], items: list[tuple[Tensor | str, Skipped | None]]
) -> tuple[Any, list[tuple[str, str]]]:
    """Join images into one batch, and return it with (name, reason) of the damaged ones."""
    damaged = [(damage.name, damage.reason) for _, damage in items if damage is not None]
    return join([image for image, _ in items]), damaged


def stack(images: list[Tensor | str]) -> Tensor | str:
    """Stack images into one tensor, or return the first error message."""
    messages = [image for image in images if isinstance(image, str)]
    return messages[0] if messages else torch.stack([image for image in images if isinstance(image, Tensor)])


def pack(images: list[Tensor | str]) -> tuple[Tensor, list[list[int]]] | str:
    """Concatenate images to one tensor (values,) and their shapes, or return the first error message.

    A single tensor, because each takes a file descriptor when sent between processes.
    """
    messages = [image for image in images if isinstance(image, str)]
    if messages:
        return messages[0]
    tensors = [image for image in images if isinstance(image, Tensor)]
    return torch.cat([image.flatten() for image in tensors]), [list(image.shape) for image in tensors]


def unpack(pixels: Tensor, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Split a packed tensor into views of the given shapes."""
    parts = pixels.split([math.prod(shape) for shape in shapes])
    return [part.view(*shape) for part, shape in zip(parts, shapes, strict=True)]


def ignore_interrupts(_worker: int) -> None:
    """Ignore Ctrl-C and hangups in a worker, which the parent handles."""
    ignore_stop_signals()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
