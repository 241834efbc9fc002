"""Load batches for the training loop, from memory if the images fit, else decoded by worker processes."""

import copy
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice

import torch
from torch import Tensor

from megavit.config.preprocessing import Preprocessing
from megavit.config.vit import ViTConfig
from megavit.data.dataset import LabeledImages, Sample
from megavit.data.image_dataset import ImageDataset, Images, load_into_memory
from megavit.data.loader.loader import iter_batches, sequential_batches
from megavit.data.loader.sampler import ResumableBatchSampler, compute_class_balanced_weights
from megavit.data.loader.shard_windows import make_shard_windows
from megavit.data.scan import MIN_IMAGES_FOR_WORKERS
from megavit.data.targets import target_tensor
from megavit.data.workers import count_workers
from megavit.distributed.context import ParallelContext
from megavit.model.activation_memory import inference_memory
from megavit.model.statistics import forward_flops
from megavit.runtime.memory import free_memory
from megavit.runtime.processors import get_local_world_size
from megavit.training.progress import Reporter
from megavit.training.task import Batch, Task

# Largest share of the free memory for the images of one split.
MEMORY_SHARE = 0.4
MAX_REPORTED = 10
INFERENCE_BATCH_SIZE = 256
MAX_BATCH_BYTES = INFERENCE_BATCH_SIZE * 3 * 256**2
"""Bytes of uint8 images in a batch of inference, of which there are several float32 copies meanwhile."""
# Largest peak in bytes of a batch's forward pass in a validation on a processor.
MAX_FORWARD_BYTES = 2**28
# Operations that a processor core does in a fraction of a second, even if it is slow or busy.
SHORT_BATCH_FLOPS = 5e9


class TrainLoader:
    """A loader of uint8 images, sized as in `ImageDataset`, and their targets.

    Args:
        samples: samples of `dataset` to load.
        workers: number of decoding processes; None for `count_workers`.
        reserved: bytes of the main memory that are needed for something else, and not for images.
        margin: factor by which aspect-preserving images are stored larger than `preprocessing` says.

    Attributes:
        labels: targets of the images, from `megavit.data.targets.target_tensor`.
        keys: what a batch has beside its images; the labels, unless replaced.
    """

    def __init__(
        self,
        dataset: LabeledImages,
        samples: Sequence[Sample],
        preprocessing: Preprocessing,
        *,
        workers: int | None,
        reporter: Reporter,
        reserved: int = 0,
        margin: float = 1.0,
    ) -> None:
        self.labels = target_tensor(samples, dataset.target, len(dataset.classes))
        self.keys = self.labels
        self.images = ImageDataset(dataset, samples, preprocessing, margin)
        self.workers = count_workers() if workers is None else workers
        self.reporter = reporter
        self._num_reported = 0
        self.memory: Images | None = None
        if self.images.nbytes <= (free_memory() / get_local_world_size() - reserved) * MEMORY_SHARE:
            processes = self.workers if len(samples) >= MIN_IMAGES_FOR_WORKERS else 0
            self.memory = load_into_memory(
                self.images, processes, lambda done, total: reporter.progress("reading images", done, total)
            )
            self._report_damage()

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, order: Iterable[list[int]]) -> Iterator[Batch]:
        """Yield (images, keys) for each batch of indices in `order`, which is iterated once."""
        if self.memory is not None:
            memory = self.memory
            for indices in order:
                images = [memory[index] for index in indices] if isinstance(memory, list) else memory[indices]
                yield images, self.keys[indices]
            return
        requested: deque[list[int]] = deque()
        for images in iter_batches(self.images, _recorded(order, requested), self.workers):
            self._report_damage()
            yield images, self.keys[requested.popleft()]

    def train_batches(
        self, task: Task, start: int, stop: int, parallel: ParallelContext | None = None
    ) -> Generator[Batch]:
        """Yield this process's shard of each training batch of steps `start` to `stop`."""
        parallel = parallel or ParallelContext()
        balanced = task.recipe.data.balance == "sampler"
        order = ResumableBatchSampler(
            len(self),
            task.batch_size,
            task.recipe.run.seed,
            start=start,
            steps=stop,
            weights=compute_class_balanced_weights(self.labels.tolist()) if balanced else None,
            rank=parallel.dp_rank,
            world_size=parallel.dp_world_size,
            windows=make_shard_windows(self.images.samples),
            read_ahead=self.memory is None,
        )
        yield from self.batches(order)

    @cached_property
    def inference_batch_size(self) -> int:
        """Largest number of images in a batch of inference, by their size only, so that a repeated run is equal."""
        return min(INFERENCE_BATCH_SIZE, max(1, MAX_BATCH_BYTES * len(self) // max(1, self.images.nbytes)))

    def sequential_batches(self, batch_size: int | None = None) -> Iterator[Images]:
        """Return an iterator over batches of all images, in order, of `inference_batch_size` if None."""
        batches = sequential_batches(len(self), batch_size or self.inference_batch_size)
        return (images for images, _ in self.batches(batches))

    def split_in_turn(
        self, parallel: ParallelContext, batch_size: int = INFERENCE_BATCH_SIZE
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Return the indices of this process's images in each batch, and those of the images that its model is given.

        All processes take part in a forward pass: one without an image runs the first one and drops the result.
        """
        batches = sequential_batches(len(self), min(batch_size, self.inference_batch_size))
        own = [batch[parallel.dp_rank :: parallel.dp_world_size] for batch in batches]
        return own, [indices or batch[:1] for indices, batch in zip(own, batches, strict=True)]

    def map(
        self,
        compute: Callable[[Iterator[Images]], Iterator[Tensor]],
        parallel: ParallelContext,
        batch_size: int = INFERENCE_BATCH_SIZE,
    ) -> Tensor:
        """Return the rows that `compute` yields for all images, in order; the processes share the work.

        A batch of all processes has at most `batch_size` images, which must be the same in each.
        """
        own, given = self.split_in_turn(parallel, batch_size)
        batches = list(compute(images for images, _ in self.batches(given)))
        rows = torch.cat([batch[: len(indices)] for batch, indices in zip(batches, own, strict=True)])
        return parallel.all_gather_rows(rows, [index for indices in own for index in indices], len(self))

    def subset(self, indices: Tensor) -> "TrainLoader":
        """Return a loader of the images at `indices`, without reading them again."""
        subset = copy.copy(self)
        subset.labels, subset.keys = self.labels[indices], self.keys[indices]
        subset._num_reported = 0
        chosen = indices.tolist()
        samples = [self.images.samples[index] for index in chosen]
        subset.images = ImageDataset(self.images.images, samples, self.images.preprocessing, self.images.margin)
        if self.memory is not None:
            memory = self.memory
            subset.memory = [memory[index] for index in chosen] if isinstance(memory, list) else memory[indices]
        return subset

    def _report_damage(self) -> None:
        damaged = self.images.damaged
        for name, reason in islice(damaged.items(), self._num_reported, MAX_REPORTED):
            self.reporter.say(
                f"{name!r} is damaged ({reason}): another image with the same or a similar target replaces it"
            )
        if len(damaged) > MAX_REPORTED >= self._num_reported:
            self.reporter.say("more images are damaged: run megavit check to list them all")
        self._num_reported = len(damaged)


def validation_batch_size(config: ViTConfig, device: torch.device) -> int:
    """Return the number of images whose forward pass takes at most `MAX_FORWARD_BYTES` on a processor.

    It depends on the model only, so that all processes have the same batches.
    """
    if device.type != "cpu":
        return INFERENCE_BATCH_SIZE
    return min(INFERENCE_BATCH_SIZE, max(1, MAX_FORWARD_BYTES // inference_memory(config)))


def short_batch_size(config: ViTConfig, device: torch.device) -> int:
    """Return the number of images that take well under a second, so that a run which is asked to stop soon does.

    It depends on the model and the number of threads only, so that a repeated run computes the same bits.
    """
    if device.type != "cpu":
        return INFERENCE_BATCH_SIZE
    images = SHORT_BATCH_FLOPS * torch.get_num_threads() / forward_flops(config)
    return min(INFERENCE_BATCH_SIZE, max(1, int(images)))


def _recorded(order: Iterable[list[int]], requested: deque[list[int]]) -> Iterator[list[int]]:
    """Yield the batches of `order`, appending each to `requested`; they are requested ahead of their images."""
    for indices in order:
        requested.append(indices)
        yield indices
