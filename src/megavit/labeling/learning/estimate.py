"""Estimate how good the model is by now, and what more labels would bring, from images that were drawn at random.

The images have a random order, by the digests of their names. Those at its beginning, up to the first that is not yet
decided, are a random sample of the folder, whatever else was labeled and why. Each of them is predicted by a model that
was fitted to all labels but its own and those of a few other random images. Of the images that were chosen none is left
out, as a model without a fifth of all labels is clearly worse while there are few.

What is left is on the low side: the images that were chosen are unlike those that were labeled before them, and so a
random image has fewer near ones among them than a new image would have.
"""

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from megavit.config.target import TargetKind
from megavit.evaluation.metrics.bootstrap import Interval, wilson_interval
from megavit.labeling.learning.probe import GrowingProbe

FOLDS = 10
"""Parts of the random images; 12 fits altogether took 0.4 s at 150 labels, and more parts bring little."""
MIN_IMAGES = 10
"""Minimum number of random images for an estimate."""
MAX_CONFUSED = 5

Confused = tuple[tuple[str, str, int], ...]
"""Pairs of a class and the one it was taken for, each with its number of images."""


@dataclass(frozen=True)
class Estimate:
    """What is known of the model.

    Attributes:
        images: number of random images that it is measured on.
        labels: number of labeled images.
        accuracy: share of the random images that are predicted right by models that have not seen them; None if there
            are too few.
        with_twice: accuracy to be expected with twice as many labels; None if that is not known.
        confused: pairs of a class and the one it was taken for by a model that has seen half of the labels, the most
            frequent first; of all labeled images, as there are too few random ones.
    """

    images: int
    labels: int
    accuracy: Interval | None
    with_twice: float | None
    confused: Confused

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as plain JSON types."""
        return asdict(self)


class Estimator:
    """Probes that are each fitted without some of the random images, and two that are fitted to half of the labels.

    The part that an image is in never changes, so that a probe that goes on from its own weights has never seen it.
    """

    def __init__(self, target: TargetKind) -> None:
        self._target = target
        self._all = [GrowingProbe(target) for _ in range(FOLDS)]
        self._halves = [GrowingProbe(target) for _ in range(2)]

    def estimate(
        self, features: Tensor, targets: Tensor, random: Tensor, digests: Sequence[bytes], classes: Sequence[str]
    ) -> Iterator[Estimate | None]:
        """Fit the probes, yielding None after each so that something else can be done first, and yield the estimate.

        Args:
            features: (N, D) of the labeled images, standardized.
            targets: (N, classes), 0 or 1.
            random: (N,) bool, whether an image is one of the random ones; one that is stays so.
            digests: digests of the images' names.
        """
        fold = torch.tensor([digest[-1] % FOLDS for digest in digests])
        half = torch.tensor([digest[-2] % 2 for digest in digests])
        parts = [(probe, random & (fold == number)) for number, probe in enumerate(self._all)]
        predicted = yield from _predict(parts, features, targets)
        parts = [(probe, half == number) for number, probe in enumerate(self._halves)]
        by_half = yield from _predict(parts, features, targets)
        correct, correct_by_half = (self._is_correct(one, targets)[random] for one in (predicted, by_half))
        count = len(correct)
        accuracy = wilson_interval(int(correct.sum()), count) if count >= MIN_IMAGES else None
        with_twice = None if accuracy is None else _extrapolate(accuracy.value, correct_by_half.double().mean().item())
        yield Estimate(count, len(targets), accuracy, with_twice, self._confused(by_half, targets, classes))

    def _is_correct(self, probabilities: Tensor, targets: Tensor) -> Tensor:
        if self._target == "classification":
            return probabilities.argmax(dim=1) == targets.argmax(dim=1)
        return ((probabilities >= 0.5) == targets.bool()).all(dim=1)

    def _confused(
        self, probabilities: Tensor, targets: Tensor, classes: Sequence[str]
    ) -> tuple[tuple[str, str, int], ...]:
        if self._target != "classification":
            return ()
        pairs = zip(targets.argmax(dim=1).tolist(), probabilities.argmax(dim=1).tolist(), strict=True)
        counts = Counter((classes[label], classes[other]) for label, other in pairs if label != other)
        return tuple((label, other, count) for (label, other), count in counts.most_common(MAX_CONFUSED))


def _predict(
    parts: Sequence[tuple[GrowingProbe, Tensor]], features: Tensor, targets: Tensor
) -> Generator[None, None, Tensor]:
    """Return the predictions for the images that a probe is fitted without, (N, classes), yielding after each fit."""
    predicted = torch.zeros_like(targets)
    for probe, held_out in parts:
        if held_out.any() and not held_out.all():
            while not probe.fit(features[~held_out], targets[~held_out]):
                yield None
            predicted[held_out] = probe.predict(features[held_out])
            yield None
    return predicted


def _extrapolate(accuracy: float, by_half: float) -> float | None:
    """Return the accuracy with twice the labels, if errors go on to fall by the same factor; None if they did not."""
    error, error_by_half = 1 - accuracy, 1 - by_half
    if error >= error_by_half or not error:
        return None
    return 1 - error * error / error_by_half
