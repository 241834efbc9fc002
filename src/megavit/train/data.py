"""Images to the loop: from memory where they fit, else decoded by worker processes as they are needed."""

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from torch import Tensor
from torch.utils.data import Sampler

from megavit.config.preprocessing import Preprocessing
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.image_dataset import ImageDataset, Images, load_into_memory
from megavit.data.loader.loader import iter_batches, sequential_batches
from megavit.data.targets import target_tensor
from megavit.data.workers import MAX_WORKERS, available_cpus
from megavit.runtime.process_group import get_local_world_size
from megavit.train.progress import Reporter

# Of the memory that is free, the images of one split may take this share.
MEMORY_SHARE = 0.4
MOST_TOLD = 10


class TrainLoader:
    """The images of some samples, uint8, at the size of `ImageDataset`, and their targets, one a row."""

    def __init__(
        self,
        images: LabeledImages,
        samples: Sequence[Sample],
        preprocessing: Preprocessing,
        workers: int | None,
        watch: Reporter,
        margin: float = 1.0,
    ) -> None:
        self.labels = target_tensor(samples, images.target, len(images.classes))
        self.pictures = ImageDataset(images, samples, preprocessing, margin)
        self.workers = min(available_cpus(), MAX_WORKERS) if workers is None else workers
        self.watch = watch
        self._told = 0
        self.memory: Images | None = None
        if self.pictures.nbytes <= free_memory() * MEMORY_SHARE / get_local_world_size():
            self.memory = load_into_memory(
                self.pictures, self.workers, lambda done, total: watch.progress("reading images", done, total)
            )
            self._tell()

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, order: Sampler[list[int]] | Sequence[list[int]]) -> Iterator[tuple[Images, Tensor]]:
        """(images, labels) of each batch of `order`, which is gone through once."""
        if self.memory is not None:
            memory = self.memory
            for chosen in order:
                batch = [memory[place] for place in chosen] if isinstance(memory, list) else memory[chosen]
                yield batch, self.labels[chosen]
            return
        asked: deque[list[int]] = deque()
        for batch in iter_batches(self.pictures, _noted(order, asked), self.workers):
            self._tell()
            yield batch, self.labels[asked.popleft()]

    def part(self, places: Tensor) -> "TrainLoader":
        """The feed of some of these images, by their places, without reading them again."""
        part = copy.copy(self)
        part.labels = self.labels[places]
        part._told = 0
        whole = self.pictures
        chosen = places.tolist()
        part.pictures = ImageDataset(
            whole.images, [whole.samples[place] for place in chosen], whole.preprocessing, whole.margin
        )
        if self.memory is not None:
            memory = self.memory
            part.memory = [memory[place] for place in chosen] if isinstance(memory, list) else memory[places]
        return part

    def _tell(self) -> None:
        """Name what was damaged in its shard since the last time, as far as a person reads such lines."""
        damaged = self.pictures.damaged
        for name, reason in islice(damaged.items(), self._told, MOST_TOLD):
            self.watch.say(f"{name!r} is damaged ({reason}): another image of its kind takes its place")
        if len(damaged) > MOST_TOLD >= self._told:
            self.watch.say("more images are damaged; megavit check lists them all")
        self._told = len(damaged)

    def in_turn(self, batch_size: int) -> Iterator[Images]:
        """Every image once, in order."""
        return (batch for batch, _ in self.batches(sequential_batches(len(self), batch_size)))


def _noted(order: Iterable[list[int]], asked: deque[list[int]]) -> Iterator[list[int]]:
    """Yield the batches of an order, and note them as they are asked for, some ahead of those that are there."""
    for chosen in order:
        asked.append(chosen)
        yield chosen


def free_memory() -> int:
    """Bytes of main memory that are free, or would be on demand; where the system does not say, a modest guess."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 2**32
    kilobytes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(kilobytes[0]) * 1024 if kilobytes else 2**32
