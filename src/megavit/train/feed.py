"""Images to the loop: from memory where they fit, else decoded by worker processes as they are needed."""

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from megavit.data.pictures import Pictures, load_all
from megavit.data.samples import LabelledImages, Sample
from megavit.data.targets import targets_of
from megavit.data.workers import processors
from megavit.errors import DataError
from megavit.train.watch import Watch

# Of the memory that is free, the images of one split may take this share.
MEMORY_SHARE = 0.4
MOST_WORKERS = 8


class Feed:
    """The images of some samples, uint8 (count, channels, height, width), and their targets, one a row."""

    def __init__(
        self,
        images: LabelledImages,
        samples: Sequence[Sample],
        size: tuple[int, int, int],
        workers: int | None,
        watch: Watch,
    ) -> None:
        channels, height, width = size
        self.labels = targets_of(samples, images.target, len(images.classes))
        self.pictures = Pictures(images, samples, height, width, channels)
        self.workers = min(processors(), MOST_WORKERS) if workers is None else workers
        self.memory: Tensor | None = None
        if self.pictures.nbytes <= free_memory() * MEMORY_SHARE:
            self.memory = load_all(
                self.pictures, self.workers, lambda done, total: watch.progress("reading images", done, total)
            )

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, order: Sampler[list[int]] | Sequence[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        """(images, labels) of each batch of `order`, which must give the same batches whenever it is gone through."""
        if self.memory is not None:
            for chosen in order:
                yield self.memory[chosen], self.labels[chosen]
            return
        loader = DataLoader(
            Answering(self.pictures),
            batch_sampler=order,
            collate_fn=stack,
            num_workers=self.workers,
            worker_init_fn=leave_interrupts_to_parent,
            pin_memory=torch.cuda.is_available(),
        )
        try:
            for batch, chosen in zip(loader, order, strict=True):
                if isinstance(batch, str):
                    raise DataError(batch)
                yield batch, self.labels[chosen]
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            raise DataError(
                "a process that reads images has died, which is mostly the system's doing when memory runs out: "
                "close other programs or make the images smaller"
            ) from error

    def in_turn(self, batch_size: int) -> Iterator[Tensor]:
        """Every image once, in order."""
        places = list(range(len(self)))
        order = [places[start : start + batch_size] for start in range(0, len(self), batch_size)]
        return (batch for batch, _ in self.batches(order))


class Answering(Dataset[Tensor | str]):
    """Pictures, or the message why one cannot be read: an error raised in a worker would arrive as a traceback."""

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures

    def __getitem__(self, index: int) -> Tensor | str:
        try:
            return self.pictures[index]
        except DataError as error:
            return str(error)


def stack(pictures: list[Tensor | str]) -> Tensor | str:
    """One tensor, or the first message."""
    messages = [picture for picture in pictures if isinstance(picture, str)]
    return messages[0] if messages else torch.stack([picture for picture in pictures if isinstance(picture, Tensor)])


def free_memory() -> int:
    """Bytes of main memory that are free, or would be on demand; where the system does not say, a modest guess."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 2**32
    kilobytes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(kilobytes[0]) * 1024 if kilobytes else 2**32


def leave_interrupts_to_parent(_worker: int) -> None:
    """Ctrl-C, or its end, reaches every process of the terminal; only the parent knows how to end well."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
