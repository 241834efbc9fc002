"""Which image is trained on when: an endless stream of shuffled epochs whose whole state is one integer."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Sampler

from megavit.runtime.seeds import generator


class BatchOrder(Sampler[list[int]]):
    """Batches of image numbers, from step `start` up to `steps`.

    Image k of the stream is number k mod `count` of epoch k div `count`, and an epoch's order follows from
    the seed: so the stream needs no memory, every image comes once an epoch, and no batch is short.

    Args:
        count: images.
        batch_size: images a step.
        seed: of the run.
        start, steps: first step, and the step before which to end.
        weights: (count,), chance of each image relative to the others. With weights an epoch is `count`
            draws with replacement.
        place, places: of each batch, the part that is this one's of so many equal ones.
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
        place: int = 0,
        places: int = 1,
    ) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.start, self.steps = start, steps
        self.weights = weights
        size = batch_size // places
        self.mine = slice(place * size, (place + 1) * size)

    def epoch(self, number: int) -> list[int]:
        """The images of one epoch, in order."""
        random = generator(self.seed, number)
        if self.weights is None:
            return torch.randperm(self.count, generator=random).tolist()
        # torch.multinomial ends at 2^24 images.
        upto = self.weights.double().cumsum(0)
        draws = torch.rand(self.count, generator=random, dtype=torch.float64) * upto[-1]
        return torch.searchsorted(upto, draws, right=True).clamp_(max=self.count - 1).tolist()

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[int]]:
        current, order = -1, []
        for step in range(self.start, self.steps):
            batch = []
            for k in range(step * self.batch_size, (step + 1) * self.batch_size):
                number, place = divmod(k, self.count)
                if number != current:
                    current, order = number, self.epoch(number)
                batch.append(order[place])
            yield batch[self.mine]


def equal_class_weights(labels: Sequence[int]) -> Tensor:
    """(count,) weights that make every class equally frequent."""
    numbers = torch.as_tensor(labels)
    return 1 / torch.bincount(numbers)[numbers].double()
