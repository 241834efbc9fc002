"""Embeddings of three classes of which few are labeled, with foreign ones among those without labels."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from megavit.evaluation.probes.cross_validation import Fold
from megavit.training.finetune.progressive import FrozenFeatures
from megavit.training.optim.loss import CrossEntropy
from tests.helpers.training import CLASSES, make_task

DIM, LABELED, TRAINING, UNLABELED, FOREIGN = 12, 24, 18, 150, 15


class Embedded(NamedTuple):
    """Labeled images, and (U, D) embeddings of those without labels with their classes (U,), -1 for foreign ones."""

    frozen: FrozenFeatures
    unlabeled: Tensor
    classes: Tensor
    digests: list[str]


def make_embedded(spread: float) -> Embedded:
    """Return embeddings of a class whose deviation from its mean is `spread` in each feature."""
    random = torch.Generator().manual_seed(0)

    def draw(classes: Tensor) -> Tensor:
        return F.one_hot(classes, DIM).float() + spread * torch.randn(len(classes), DIM, generator=random)

    labels, classes = torch.arange(LABELED) % CLASSES, torch.arange(UNLABELED) % CLASSES
    task = make_task()
    split = Fold(torch.arange(TRAINING), torch.arange(TRAINING, LABELED))
    frozen = FrozenFeatures(draw(labels), labels, task, torch.zeros(CLASSES), 0.0, split)
    assert isinstance(task.loss, CrossEntropy)
    foreign = 3.0 + spread * torch.randn(FOREIGN, DIM, generator=random)
    unlabeled = torch.cat([draw(classes), foreign])
    return Embedded(frozen, unlabeled, torch.cat([classes, torch.full((FOREIGN,), -1)]), list(map(str, range(LABELED))))


@pytest.fixture(scope="session")
def embedded() -> Embedded:
    """Images whose classes are told apart most of the time."""
    return make_embedded(0.35)
