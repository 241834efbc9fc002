"""Measure whether features that were trained without a class suffice for it, on images that no row was fitted on."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from megavit.data.split.split_names import SPLITS
from megavit.evaluation.metrics.bootstrap import Interval, wilson_interval
from megavit.training.incremental.change import NewHead
from megavit.training.incremental.new_images import NewImages
from megavit.training.incremental.outputs import Outputs
from megavit.training.incremental.result import AddedClass

MIN_HELD_OUT = 3
"""Smallest number of new images of a class on which it is checked, and of other classes that it is compared with."""
MIN_TOLD_APART = 0.8
"""Share of the images of two classes that get the right one of the two, below which they are not separable."""


@dataclass(frozen=True)
class SeparabilityCheck:
    """The images that were held out from the rows of a head.

    Attributes:
        head: the changed head.
        former, added: outputs of the former images, and of the new ones.
        train_logits: (N, C) logits of the former and then the new training images by rows not fitted on them.
    """

    head: NewHead
    former: Outputs
    added: Outputs
    train_logits: Tensor

    def describe(self, label: int, new: NewImages, former_classes: int) -> AddedClass:
        """Return what is known of a class that has new images, of which the bundle had so many classes before."""
        images = Counter(sample.split for part in new.parts for sample in part.samples if sample.label == label)
        own = self._new_logits(label)
        recall, nearest, told_apart = None, None, None
        if len(own) >= MIN_HELD_OUT:
            recall = wilson_interval(int((own.argmax(dim=1) == label).sum()), len(own))
            shares = {other: pair for other in range(len(new.labels)) if (pair := self._tell_apart(own, label, other))}
            if shares:
                nearest = min(shares, key=lambda other: sum(one.value for one in shares[other]))
                told_apart = shares[nearest]
        return AddedClass(
            name=new.labels[label],
            images={split: images[split] for split in SPLITS},
            is_new=label >= former_classes,
            recall=recall,
            nearest_class=None if nearest is None else new.labels[nearest],
            told_apart=None if told_apart is None else sum(one.value for one in told_apart) / 2,
            is_separable=None if told_apart is None else sum(one.high for one in told_apart) / 2 >= MIN_TOLD_APART,
        )

    def _tell_apart(self, own: Tensor, label: int, other: int) -> tuple[Interval, Interval] | None:
        """Return the shares of a class's images, and of another's, that get the right one of the two."""
        others = torch.cat([self._logits(self.former, split, other) for split in ("val", "test")])
        if other == label or len(others) < MIN_HELD_OUT:
            return None
        right = ((own[:, label] > own[:, other]).sum(), (others[:, other] > others[:, label]).sum())
        return wilson_interval(int(right[0]), len(own)), wilson_interval(int(right[1]), len(others))

    def _new_logits(self, label: int) -> Tensor:
        """Return the logits of the new images of a class."""
        train = self.train_logits[len(self.former["train"]) :]
        held_out = [self._logits(self.added, split, label) for split in ("val", "test")]
        return torch.cat([train[self.added["train"].labels == label], *held_out])

    def _logits(self, outputs: Outputs, split: str, label: int) -> Tensor:
        found = outputs[split]
        return found.with_head(self.head.weight, self.head.bias).logits[found.labels == label]
