"""Prediction sets and intervals with a stated coverage, by split conformal prediction (arXiv 2107.07511, 1 and 2).

Whatever the model, a set of classes holds the true one, and an interval the true score, for at least the stated share
of images, as long as these are drawn like the validation images that it was calibrated on.
"""

import math
from typing import Any

import numpy as np

from megavit.errors import ConfigError
from megavit.predict.postprocess.predictions import cumulative_mass_above

MIN_IMAGES_BEYOND = 5
"""Each class has a limit of its own where as many of its validation images are expected beyond it (section 4.1): then
the coverage holds for every class by itself."""
MAX_CACHED_COVERAGES = 64
"""Whose limits are kept: a server is asked for any."""


def conformal_quantile(scores: Any, coverage: float) -> float:
    """Return what a new score does not exceed with the probability `coverage`; inf where that takes more images.

    Args:
        scores: (N,) array or tensor, of images drawn as the new one will be.
        coverage: in (0, 1).
    """
    rank = math.ceil((len(scores) + 1) * coverage)
    return math.inf if rank > len(scores) else np.partition(np.asarray(scores), rank - 1)[rank - 1].item()


class PredictionSets:
    """Sets of classes for any coverage.

    Args:
        scores: (N,) array or tensor, `cumulative_mass_above` of the true class of each validation image.
        labels: (N,), these classes.
        classes: number of all.
    """

    def __init__(self, scores: Any, labels: Any, classes: int) -> None:
        self.scores, self.labels, self.classes = np.asarray(scores), np.asarray(labels), classes
        self._limits: dict[float, np.ndarray] = {}

    def members(self, probabilities: np.ndarray, coverage: float) -> np.ndarray:
        """Return which classes are in the set of each image, (B, C) bools, never none."""
        return cumulative_mass_above(probabilities) <= self.limits(coverage)

    def limits(self, coverage: float) -> np.ndarray:
        """Return up to which `cumulative_mass_above` each class is in the set: (C,) float64."""
        if coverage not in self._limits:
            if len(self._limits) >= MAX_CACHED_COVERAGES:
                self._limits.clear()
            self._limits[coverage] = self._compute_limits(coverage)
        return self._limits[coverage]

    def is_class_conditional(self, coverage: float) -> bool:
        """Return whether every class has a limit of its own."""
        fewest = int(np.bincount(self.labels, minlength=self.classes).min())
        return (fewest + 1) * (1 - coverage) >= MIN_IMAGES_BEYOND

    def _compute_limits(self, coverage: float) -> np.ndarray:
        if not self.is_class_conditional(coverage):
            return np.full(self.classes, conformal_quantile(self.scores, coverage))
        return np.array(
            [conformal_quantile(self.scores[self.labels == label], coverage) for label in range(self.classes)]
        )


def is_possible(coverage: float, images: int) -> bool:
    """Return whether a coverage in (0, 1) can be promised after `images` validation images."""
    return math.ceil((images + 1) * coverage) <= images


def check_coverage(coverage: float, images: int) -> None:
    """Raise a ConfigError unless the coverage can be promised after `images` validation images."""
    if not 0 < coverage < 1:
        raise ConfigError(f"coverage must be a number between 0 and 1, such as 0.95, got {coverage!r}")
    if not is_possible(coverage, images):
        most = math.floor(1000 * images / (images + 1)) / 1000
        raise ConfigError(
            f"a coverage of {coverage} takes {math.ceil(coverage / (1 - coverage)):,} validation images or more, and "
            f"this bundle had {images:,}: ask for at most {most}"
        )
