"""Sample batches from an endless stream of shuffled epochs, whose only state is the step."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Sampler

from megavit.data.loader.shard_windows import ShardWindows
from megavit.runtime.seeds import generator


class ResumableBatchSampler(Sampler[list[int]]):
    """A batch sampler for steps `start` to `steps` - 1 that yields the same batches after every resume.

    Image k of the stream is image k mod `count` of epoch k div `count`, whose order follows from the seed. Every image
    occurs once per epoch, and all batches are full. Processes take slices of the same batches, so that their number
    does not change the batches.

    Args:
        count: number of images.
        batch_size: global batch size.
        seed: random seed of the run.
        start, steps: first step, and the step at which to end (exclusive).
        weights: relative probability of each image (count,); an epoch is then `count` draws with replacement.
        rank, world_size: index of this process's slice of each batch, and the number of slices.
        windows: windows over many shards, which restrict the order to a few shards at a time.
        read_ahead: whether to read the shards of the next window ahead.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        *,
        start: int,
        steps: int,
        weights: Tensor | None = None,
        windows: ShardWindows | None = None,
        read_ahead: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.start, self.steps = start, steps
        # Draws with replacement come from all shards.
        self.weights, self.windows = weights, windows if weights is None else None
        self.read_ahead = read_ahead and self.windows is not None
        size = batch_size // world_size
        self.rank_slice = slice(rank * size, (rank + 1) * size)

    def epoch(self, number: int) -> list[int]:
        """Return the indices of an epoch in order."""
        random = generator(self.seed, number)
        if self.windows is not None:
            return self.windows.epoch(random)[0]
        if self.weights is None:
            return torch.randperm(self.count, generator=random).tolist()
        # torch.multinomial is limited to 2^24 images.
        cumulative = self.weights.double().cumsum(0)
        draws = torch.rand(self.count, generator=random, dtype=torch.float64) * cumulative[-1]
        return torch.searchsorted(cumulative, draws, right=True).clamp_(max=self.count - 1).tolist()

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[int]]:
        current, order = -1, []
        ahead: dict[int, list[int]] = {}
        for step in range(self.start, self.steps):
            batch = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                epoch, index = divmod(position, self.count)
                if epoch != current:
                    current, order = epoch, self.epoch(epoch)
                    ahead = self._shards_to_read_ahead(epoch, index) if self.read_ahead else {}
                if index in ahead and self.windows is not None:
                    self.windows.read_ahead(ahead[index])
                batch.append(order[index])
            yield batch[self.rank_slice]

    def _shards_to_read_ahead(self, epoch: int, first: int) -> dict[int, list[int]]:
        """Return the shards to read ahead, by position in an epoch from `first` on."""
        assert self.windows is not None
        windows = self.windows.epoch(generator(self.seed, epoch))[1]
        current = max(window for window, (start, _) in enumerate(windows) if start <= first)
        following = [shards for _, shards in windows[1:]]
        following.append(self.windows.epoch(generator(self.seed, epoch + 1))[1][0][1])
        ahead = {start: shards for (start, _), shards in zip(windows, following, strict=True)}
        return ahead | {first: windows[current][1] + following[current]}


def compute_class_balanced_weights(labels: Sequence[int]) -> Tensor:
    """Return sampling weights (count,) under which every class is equally frequent."""
    classes = torch.as_tensor(labels)
    return 1 / torch.bincount(classes)[classes].double()
