"""Fashion-MNIST (arXiv 1708.07747) in memory: 55,000 images to train, 5,000 to choose by, 10,000 to test.

Everything that is chosen is chosen on the validation images; the test images are for the race alone.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.data.fashion_mnist_folders import CLASSES, DEBIAN, PREFIXES, read_idx
from megavit.errors import DataError
from megavit.runtime.seeds import generator

VALIDATION_PER_CLASS = 500
SEED = 0


class Split(NamedTuple):
    """Images, uint8 (N, 1, 28, 28), and their labels, int64 (N,) in [0, 10)."""

    images: Tensor
    labels: Tensor

    def select(self, indices: Tensor) -> "Split":
        return Split(self.images[indices], self.labels[indices])


class Fashion(NamedTuple):
    train: Split
    val: Split
    test: Split


@cache
def load(source: Path = DEBIAN) -> Fashion:
    """The three splits; the validation images are 500 of each class, drawn once and for all.

    Raises:
        DataError: when the files are missing or damaged.
    """
    training, test = read_split(source, "train"), read_split(source, "test")
    shuffled = torch.randperm(len(training.labels), generator=generator(SEED))
    of_class = [shuffled[training.labels[shuffled] == label] for label in range(len(CLASSES))]
    chosen = torch.cat([indices[:VALIDATION_PER_CLASS] for indices in of_class]).sort().values
    rest = torch.cat([indices[VALIDATION_PER_CLASS:] for indices in of_class]).sort().values
    return Fashion(training.select(rest), training.select(chosen), test)


def read_split(source: Path, split: str) -> Split:
    """One of the two splits as they are published, "train" or "test"."""
    images = read_idx(source / f"{PREFIXES[split]}-images-idx3-ubyte.gz")
    labels = read_idx(source / f"{PREFIXES[split]}-labels-idx1-ubyte.gz")
    if images.shape != (len(labels), 28, 28) or labels.max(initial=0) >= len(CLASSES):
        raise DataError(f"the {split} files do not fit together: images {images.shape}, labels {labels.shape}")
    return Split(torch.from_numpy(images.copy()).unsqueeze(1), torch.from_numpy(labels.copy()).long())
