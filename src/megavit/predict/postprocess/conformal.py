"""Answers with a stated coverage, by split conformal prediction (arXiv 2107.07511, sections 1 and 2).

Whatever the model, a set of classes holds the true one, and an interval the true score, for at least the stated share
of images, as long as these are drawn like the validation images that it was calibrated on.
"""

import math

import torch
from torch import Tensor

from megavit.errors import ConfigError

# Each class has its own limit where so many of its validation images are expected beyond it (section 4.1): then the
# coverage holds for every class by itself.
LEAST_BEYOND = 5
# Whose limits are remembered: a server is asked for any.
MOST_COVERAGES = 64


def cumulative_mass_above(probabilities: Tensor) -> Tensor:
    """For each class the probability of all that are likelier, (B, C) float64; of equal ones the first is likelier.

    It is the score of adaptive prediction sets (arXiv 2006.02544) without the class's own share: 0 for the likeliest,
    which is therefore in every set.
    """
    ordered, places = probabilities.double().sort(dim=1, descending=True, stable=True)
    return torch.empty_like(ordered).scatter_(1, places, ordered.cumsum(dim=1) - ordered)


def conformal_quantile(scores: Tensor, coverage: float) -> float:
    """The score that a new one is not above with the probability `coverage`; inf where that takes more images.

    Args:
        scores: (N,), of images drawn as the new one will be.
        coverage: in (0, 1).
    """
    rank = math.ceil((len(scores) + 1) * coverage)
    return math.inf if rank > len(scores) else scores.kthvalue(rank).values.item()


class PredictionSets:
    """Sets of classes for any coverage.

    Args:
        scores: (N,), `cumulative_mass_above` of the true class of each validation image.
        labels: (N,), these classes.
        classes: number of all.
    """

    def __init__(self, scores: Tensor, labels: Tensor, classes: int) -> None:
        self.scores, self.labels, self.classes = scores, labels, classes
        self._limits: dict[float, Tensor] = {}

    def members(self, probabilities: Tensor, coverage: float) -> Tensor:
        """Which classes are in the set of each image, (B, C) bools, never none."""
        return cumulative_mass_above(probabilities) <= self.limits(coverage)

    def limits(self, coverage: float) -> Tensor:
        """Of `cumulative_mass_above`, up to which each class is in the set: (C,) float64."""
        if coverage not in self._limits:
            if len(self._limits) >= MOST_COVERAGES:
                self._limits.clear()
            self._limits[coverage] = self._limits_of(coverage)
        return self._limits[coverage]

    def by_class(self, coverage: float) -> bool:
        """Whether every class has a limit of its own."""
        fewest = int(self.labels.bincount(minlength=self.classes).min())
        return (fewest + 1) * (1 - coverage) >= LEAST_BEYOND

    def _limits_of(self, coverage: float) -> Tensor:
        if not self.by_class(coverage):
            return torch.full((self.classes,), conformal_quantile(self.scores, coverage), dtype=torch.float64)
        return torch.tensor(
            [conformal_quantile(self.scores[self.labels == label], coverage) for label in range(self.classes)],
            dtype=torch.float64,
        )


def is_possible(coverage: float, images: int) -> bool:
    """Whether a coverage in (0, 1) can be promised after so many validation images."""
    return math.ceil((images + 1) * coverage) <= images


def check_coverage(coverage: float, images: int) -> None:
    """Raise a ConfigError unless it is one that can be promised after so many validation images."""
    if not 0 < coverage < 1:
        raise ConfigError(f"coverage must be a number between 0 and 1, such as 0.95, got {coverage!r}")
    if not is_possible(coverage, images):
        most = math.floor(1000 * images / (images + 1)) / 1000
        raise ConfigError(
            f"a coverage of {coverage} takes {math.ceil(coverage / (1 - coverage)):,} validation images or more, and "
            f"this bundle had {images:,}: ask for at most {most}"
        )
