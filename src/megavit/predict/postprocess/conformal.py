"""Compute prediction sets and intervals with a guaranteed coverage by split conformal prediction.

For images drawn like the validation images, a set or an interval contains the true class or score with at least the
chosen probability, whatever the model (arXiv 2107.07511, sections 1 and 2).
"""

import math
from typing import Any

import numpy as np

from megavit.errors import ConfigError
from megavit.predict.postprocess.predictions import cumulative_mass_above

MIN_IMAGES_BEYOND = 5
"""Limits are per class if at least this many validation images of every class are expected above them (section 4.1)."""
MAX_CACHED_COVERAGES = 64


def conformal_quantile(scores: Any, coverage: float) -> float:
    """Return the `coverage` quantile of scores (N,) with the finite-sample correction; inf if N is too small."""
    rank = math.ceil((len(scores) + 1) * coverage)
    return math.inf if rank > len(scores) else np.partition(np.asarray(scores), rank - 1)[rank - 1].item()


class PredictionSets:
    """Prediction sets of classes for any coverage.

    Args:
        scores: (N,) array or tensor, `cumulative_mass_above` of the true class of each validation image.
        labels: (N,) true class of each validation image, out of the number `classes`.
    """

    def __init__(self, scores: Any, labels: Any, classes: int) -> None:
        self.scores, self.labels, self.classes = np.asarray(scores), np.asarray(labels), classes
        self._limits: dict[float, np.ndarray] = {}

    def members(self, probabilities: np.ndarray, coverage: float) -> np.ndarray:
        """Return which classes are in the prediction set of each image, (B, C) bools, at least one per image."""
        return cumulative_mass_above(probabilities) <= self.limits(coverage)

    def limits(self, coverage: float) -> np.ndarray:
        """Return the largest `cumulative_mass_above` with which each class is in the set, (C,) float64."""
        if coverage not in self._limits:
            if len(self._limits) >= MAX_CACHED_COVERAGES:
                self._limits.clear()
            self._limits[coverage] = self._compute_limits(coverage)
        return self._limits[coverage]

    def is_class_conditional(self, coverage: float) -> bool:
        """Return whether every class has its own limit."""
        min_count = int(np.bincount(self.labels, minlength=self.classes).min())
        return (min_count + 1) * (1 - coverage) >= MIN_IMAGES_BEYOND

    def _compute_limits(self, coverage: float) -> np.ndarray:
        if not self.is_class_conditional(coverage):
            return np.full(self.classes, conformal_quantile(self.scores, coverage))
        return np.array(
            [conformal_quantile(self.scores[self.labels == label], coverage) for label in range(self.classes)]
        )


def is_possible(coverage: float, images: int) -> bool:
    """Return whether `images` validation images suffice for a coverage in (0, 1)."""
    return math.ceil((images + 1) * coverage) <= images


def check_coverage(coverage: float, images: int) -> None:
    """Raise a ConfigError unless the coverage is in (0, 1), and `images` validation images suffice for it."""
    if not 0 < coverage < 1:
        raise ConfigError(f"coverage must be a number between 0 and 1, such as 0.95, got {coverage!r}")
    if not is_possible(coverage, images):
        max_coverage = math.floor(1000 * images / (images + 1)) / 1000
        raise ConfigError(
            f"a coverage of {coverage} needs at least {math.ceil(coverage / (1 - coverage)):,} validation images, but "
            f"this bundle had {images:,}: use a coverage of at most {max_coverage}"
        )
